package gateway

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
)

// someone lets everybody in.
type someone struct{}

func (someone) Authenticate(*http.Request) (user.Info, bool, error) {
	return &user.DefaultInfo{Name: "alice"}, true, nil
}

// TestRefusedBeforeBody: an API server refuses a request by its header, before the client has sent the body, and the
// client then sends none. The answer must end at once and not when the time for bodies is over.
func TestRefusedBeforeBody(t *testing.T) {
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "refused")
	}))
	api.EnableHTTP2 = true
	api.StartTLS()
	t.Cleanup(api.Close)
	handler, err := NewHandler(Config{Upstream: &rest.Config{Host: api.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, Authenticators: []Authenticator{someone{}}})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(handler)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)
	slow, sender := io.Pipe()
	t.Cleanup(func() { _ = sender.Close() })
	// Without an end of its own the test would end with the whole package's time.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodDelete, front.URL+"/api/v1/namespaces/dev/secrets/sso", slow)
	if err != nil {
		t.Fatal(err)
	}
	request.ContentLength = 64
	response, err := front.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusForbidden || string(body) != "refused" {
		t.Errorf("%s %q, %v", response.Status, body, err)
	}
}
