package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// readyFor is how long an answer of /readyz holds: anyone may ask, so asking must be cheap.
	readyFor = time.Second
	// readyTime is how long all checks together may take.
	readyTime = 5 * time.Second
)

// refuse answers like the API server does, so that every client shows the message.
func refuse(w http.ResponseWriter, reason metav1.StatusReason, code int32, message string) {
	body, err := json.Marshal(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Reason: reason, Code: code, Message: message,
	})
	if err != nil {
		http.Error(w, message, int(code))
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(code))
	// A client that went away before its answer is its own business.
	_, _ = w.Write(body)
}

// refuseError answers with an error of the API; any other is not for people.
func refuseError(w http.ResponseWriter, err error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		refuse(w, metav1.StatusReasonForbidden, http.StatusForbidden, "the request is refused")
		return
	}
	refuse(w, status.Status().Reason, status.Status().Code, status.Status().Message)
}

// tooMany tells a client to come back later.
func tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	refuse(w, metav1.StatusReasonTooManyRequests, http.StatusTooManyRequests, "too many requests without a valid credential from this address; try again in a moment")
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	// A client that went away before its answer is its own business.
	_, _ = w.Write([]byte(text))
}

// readiness answers /readyz and remembers the answer for a moment.
type readiness struct {
	checks map[string]func(context.Context) error
	logger *slog.Logger

	mu     sync.Mutex
	until  time.Time
	failed []string
}

func newReadiness(checks map[string]func(context.Context) error, logger *slog.Logger) *readiness {
	return &readiness{checks: checks, logger: logger}
}

// ServeHTTP answers 200 when every check passes, else 503 with the names of those that do not; why they do
// not goes to the log, since anyone may read the answer.
func (s *readiness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if failed := s.ask(context.WithoutCancel(r.Context())); len(failed) > 0 {
		plain(w, http.StatusServiceUnavailable, "not ready: "+strings.Join(failed, ", ")+"\n")
		return
	}
	plain(w, http.StatusOK, "ok\n")
}

func (s *readiness) ask(ctx context.Context) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.until) {
		return s.failed
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	s.failed = nil
	for _, name := range slices.Sorted(maps.Keys(s.checks)) {
		if err := s.checks[name](ctx); err != nil {
			s.logger.WarnContext(ctx, "not ready", "check", name, "err", err)
			s.failed = append(s.failed, name)
		}
	}
	s.until = time.Now().Add(readyFor)
	return s.failed
}
