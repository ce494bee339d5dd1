package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/auth"
)

const (
	// recheckSoon is how long changes are gathered before requests are rechecked.
	recheckSoon = 50 * time.Millisecond
	// recheckLater is when they are rechecked once more: RBAC may hear of a change after the server has.
	recheckLater = time.Second
	// recheckEvery is how often they are rechecked without a change: sessions and tokens end by the clock.
	recheckEvery = time.Minute
	// checkTime is how long one check may take.
	checkTime = 10 * time.Second
	// checksAtOnce is how many requests are checked at the same time.
	checksAtOnce = 8
	// unsureFor is how long a request may go on while it cannot be found out whether it may.
	unsureFor = 5 * time.Minute
)

// LongDeps is what Long works with.
type LongDeps struct {
	// Authenticators are those of the port.
	Authenticators []Authenticator
	// Client asks RBAC; it must be allowed to create SubjectAccessReviews.
	Client client.Client
	// Log receives what goes wrong; nil means silence.
	Log *slog.Logger
}

// Long knows every request that may go on without an end: watches, upgrades and routes that are Long. It ends those
// whose person has lost the right to them. A nil Long knows none. It is safe for concurrent use.
type Long struct {
	LongDeps
	changed chan struct{}
	infos   *request.RequestInfoFactory

	mu sync.Mutex
	// turn counts the rechecks that have begun.
	turn uint64
	open map[*held]struct{}
}

// held is one request that may go on.
type held struct {
	// request is as the client sent it, with its credentials.
	request *http.Request
	who     user.Info
	// since is the turn before which its person was let in.
	since  uint64
	cancel context.CancelCauseFunc

	// Long.mu guards the rest.
	conditions []condition
	// sure is when it was last found out that it may go on.
	sure time.Time
}

// condition says whether a person may go on with a request.
type condition func(context.Context, user.Info) (bool, error)

// cut is why the context of a request has ended whose person may not go on.
type cut struct{}

// Error says it to the person.
func (cut) Error() string { return "your right to this request has ended" }

// NewLong knows no request yet.
func NewLong(deps LongDeps) *Long {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	return &Long{
		LongDeps: deps, changed: make(chan struct{}, 1), open: map[*held]struct{}{},
		infos: &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")},
	}
}

// Changed says that somebody may have lost a right. It does not wait.
func (l *Long) Changed() {
	select {
	case l.changed <- struct{}{}:
	default: // A recheck is asked for already.
	}
}

// Run rechecks after each change, and each minute, until the context ends.
func (l *Long) Run(ctx context.Context) {
	soon, later, tick := time.NewTimer(recheckSoon), time.NewTimer(recheckLater), time.NewTicker(recheckEvery)
	defer tick.Stop()
	defer later.Stop()
	defer soon.Stop()
	waiting := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.changed:
			// A stream of changes must not put off the check of the first.
			if !waiting {
				soon.Reset(recheckSoon)
				waiting = true
			}
			later.Reset(recheckLater)
			continue
		case <-soon.C:
			waiting = false
		case <-later.C:
		case <-tick.C:
		}
		l.Recheck(ctx)
	}
}

// Recheck authenticates every open request anew, asks again whether it is allowed, and ends those that are not.
func (l *Long) Recheck(ctx context.Context) {
	l.mu.Lock()
	l.turn++
	open := slices.Collect(maps.Keys(l.open))
	l.mu.Unlock()
	var wait sync.WaitGroup
	slots := make(chan struct{}, checksAtOnce)
	for _, h := range open {
		slots <- struct{}{}
		wait.Go(func() {
			l.check(ctx, h)
			<-slots
		})
	}
	wait.Wait()
}

func (l *Long) check(ctx context.Context, h *held) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	may, err := l.may(ctx, h)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case h.request.Context().Err() != nil: // It has ended by itself.
	case err == nil && may:
		h.sure = time.Now()
	case err == nil:
		l.Log.InfoContext(ctx, "a request was ended: its person has no right to it any more", "user", h.who.GetName(), "path", h.request.URL.Path)
		h.cancel(cut{})
	case time.Since(h.sure) > unsureFor:
		l.Log.WarnContext(ctx, "a request was ended: it cannot be found out whether it may go on", "user", h.who.GetName(), "path", h.request.URL.Path, "err", err)
		h.cancel(cut{})
	default:
		l.Log.WarnContext(ctx, "cannot find out whether a request may go on", "user", h.who.GetName(), "path", h.request.URL.Path, "err", err)
	}
}

func (l *Long) may(ctx context.Context, h *held) (bool, error) {
	who, err := authenticate(l.Authenticators, h.request.WithContext(auth.Looking(ctx)))
	if err != nil {
		return false, err
	}
	if who == nil || who.GetName() != h.who.GetName() || who.GetUID() != h.who.GetUID() {
		return false, nil
	}
	l.mu.Lock()
	conditions := slices.Clone(h.conditions)
	l.mu.Unlock()
	for _, may := range conditions {
		if ok, err := may(ctx, who); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

type (
	heldKey struct{}
	turnKey struct{}
)

// arrive notes when a request came, before anyone has looked at its credentials.
func (l *Long) arrive(r *http.Request) *http.Request {
	if l == nil {
		return r
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return r.WithContext(context.WithValue(r.Context(), turnKey{}, l.turn))
}

// hold makes a request one that is rechecked, until done is called. The request it gives ends when its person may not
// go on; may says whether that is so.
func (l *Long) hold(r *http.Request, who user.Info, may condition) (_ *http.Request, done func()) {
	if l == nil {
		return r, func() {}
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	since, _ := r.Context().Value(turnKey{}).(uint64)
	// A copy: who serves the request may change it.
	h := &held{request: r.Clone(ctx), who: who, since: since, cancel: cancel, conditions: []condition{may}, sure: time.Now()}
	h.request.Body = http.NoBody
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[h] = struct{}{}
	l.catchUp(ctx, h)
	return r.WithContext(context.WithValue(ctx, heldKey{}, keeper{l, h})), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open, h)
		cancel(nil)
	}
}

// catchUp checks a request that a recheck has missed, since that began after the person was let in. The caller holds mu.
func (l *Long) catchUp(ctx context.Context, h *held) {
	if l.turn != h.since {
		go l.check(ctx, h)
	}
}

// keeper is a request and who rechecks it.
type keeper struct {
	long *Long
	held *held
}

// KeepWhile adds a condition to a request of a Route that is Long: it is ended when the condition says no of the
// person, as later logins would be seen. Call it before what the condition speaks of is used. Elsewhere it does nothing.
func KeepWhile(ctx context.Context, may func(context.Context, user.Info) (bool, error)) {
	k, ok := ctx.Value(heldKey{}).(keeper)
	if !ok {
		return
	}
	k.long.mu.Lock()
	defer k.long.mu.Unlock()
	k.held.conditions = append(k.held.conditions, may)
	k.long.catchUp(ctx, k.held)
}

// api says whether a request to the API may go on without an end, and what lets it: the same that the API server asks.
func (l *Long) api(r *http.Request) (condition, bool) {
	if l == nil || (r.Method != http.MethodGet && !IsUpgrade(r)) {
		return nil, false
	}
	info, err := l.infos.NewRequestInfo(r)
	if err != nil || (info.Verb != "watch" && !IsUpgrade(r)) {
		return nil, false // The API server cannot read it either.
	}
	return func(ctx context.Context, who user.Info) (bool, error) {
		review := &authorizationv1.SubjectAccessReview{Spec: reviewOf(info, who)}
		if err := l.Client.Create(ctx, review); err != nil {
			return false, fmt.Errorf("cannot ask who may %s %s: %w", info.Verb, info.Path, err)
		}
		return review.Status.Allowed, nil
	}, true
}

func reviewOf(info *request.RequestInfo, who user.Info) authorizationv1.SubjectAccessReviewSpec {
	spec := authorizationv1.SubjectAccessReviewSpec{
		User: who.GetName(), Groups: who.GetGroups(), UID: who.GetUID(), Extra: map[string]authorizationv1.ExtraValue{},
	}
	for k, v := range who.GetExtra() {
		spec.Extra[k] = v
	}
	if !info.IsResourceRequest {
		spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: info.Path, Verb: info.Verb}
		return spec
	}
	spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
		Namespace: info.Namespace, Verb: info.Verb, Group: info.APIGroup, Version: info.APIVersion,
		Resource: info.Resource, Subresource: info.Subresource, Name: info.Name,
	}
	return spec
}
