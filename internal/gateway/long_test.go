package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/audit"
)

// rights is who may log in and do what, as of now. It stands for the authenticators and for RBAC.
type rights struct {
	mu sync.Mutex
	// loggedIn and allowed hold names.
	loggedIn, allowed map[string]bool
	// broken is what RBAC answers when it is away.
	broken error
	// asked holds what RBAC was asked.
	asked []authorizationv1.SubjectAccessReviewSpec
	// during is called in each authentication, after the answer is known.
	during func()
}

func newRights(names ...string) *rights {
	r := &rights{loggedIn: map[string]bool{}, allowed: map[string]bool{}}
	for _, name := range names {
		r.loggedIn[name], r.allowed[name] = true, true
	}
	return r
}

func (r *rights) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *rights) questions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked)
}

// Authenticate lets in whom the header User names.
func (r *rights) Authenticate(request *http.Request) (user.Info, bool, error) {
	name := request.Header.Get("User")
	r.mu.Lock()
	known, during := r.loggedIn[name], r.during
	r.mu.Unlock()
	if during != nil {
		during()
	}
	return &user.DefaultInfo{Name: name, UID: "7", Groups: []string{"team"}, Extra: map[string][]string{"a": {"b"}}}, known, nil
}

func (r *rights) client(t *testing.T) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := authorizationv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return clientfake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
			review := o.(*authorizationv1.SubjectAccessReview)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.asked = append(r.asked, review.Spec)
			review.Status.Allowed = r.allowed[review.Spec.User]
			return r.broken
		}}).Build()
}

func (r *rights) long(t *testing.T) *Long {
	t.Helper()
	return NewLong(LongDeps{Authenticators: []Authenticator{r}, Client: r.client(t)})
}

// endless answers with its first line at once, and then only ends with its request.
func endless(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, "begun\n")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// watcher begins a watch and waits for its first line; what it gives says how the watch ended.
func watcher(t *testing.T, server *httptest.Server, name, path string) func() error {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("User", name)
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	lines := bufio.NewReader(response.Body)
	if first, err := lines.ReadString('\n'); err != nil || first != "begun\n" {
		t.Fatalf("%s: %q, %v, status %s", path, first, err, response.Status)
	}
	return func() error {
		_, err := lines.ReadString('\n')
		return err
	}
}

// TestRightsEnd: whoever lost the right to a watch, of the API or of a route, is cut off; the watches of others go on.
func TestRightsEnd(t *testing.T) {
	const api, route, quiet = "/apis/slipway.dev/v1alpha1/namespaces/dev/clusters?watch=true", "/slipway/v1/projects/dev/operations/op/log", "/slipway/v1/mine"
	for name, tc := range map[string]struct {
		reason, path string
		change       func(*rights)
	}{
		"watch, logged out":  {reason: "a disabled user, an ended session, a revoked token", path: api, change: func(r *rights) { r.loggedIn["eve"] = false }},
		"watch, not allowed": {reason: "a member who was removed", path: api, change: func(r *rights) { r.allowed["eve"] = false }},
		"route, logged out":  {reason: "routes end too", path: route, change: func(r *rights) { r.loggedIn["eve"] = false }},
		"route, not allowed": {reason: "by their rule", path: route, change: func(r *rights) { r.allowed["eve"] = false }},
		"own, logged out":    {reason: "also where every person is let in", path: quiet, change: func(r *rights) { r.loggedIn["eve"] = false }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRights("ann", "eve")
			long := r.long(t)
			routes, err := NewRoutes(RouteDeps{Access: access.NewAuthorizer(r.client(t)), Audit: audit.Discard{}, Long: long},
				Route{Method: "GET", Path: "/slipway/v1/projects/{project}/operations/{name}/log", Long: true, Serve: func(w http.ResponseWriter, r *http.Request) error { endless(w, r); return nil },
					Rule: Rule{RBAC: &access.Attributes{Verb: "get", Resource: "operations", Subresource: "log"}}},
				Route{Method: "GET", Path: quiet, Long: true, Rule: Rule{Self: true}, Serve: func(w http.ResponseWriter, r *http.Request) error { endless(w, r); return nil }},
			)
			if err != nil {
				t.Fatal(err)
			}
			server := front(t, Config{Upstream: newUpstream(t, endless).config(), Authenticators: []Authenticator{r}, Routes: routes, Long: long})
			annEnded, eveEnded := watcher(t, server, "ann", tc.path), watcher(t, server, "eve", tc.path)
			long.Recheck(t.Context())
			r.change(func() { tc.change(r) })
			long.Recheck(t.Context())
			if err := eveEnded(); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("%s: the watch ended with %v, and must not look whole", tc.reason, err)
			}
			long.mu.Lock()
			left := len(long.open)
			long.mu.Unlock()
			if left > 1 {
				t.Errorf("%s: %d requests are still known", tc.reason, left)
			}
			ended := make(chan error, 1)
			go func() { ended <- annEnded() }()
			long.Recheck(t.Context())
			select {
			case err := <-ended:
				t.Errorf("%s: the watch of another person ended: %v", tc.reason, err)
			default:
			}
		})
	}
}

// TestRightsEndMeanwhile: rights that end while a watch begins end it too, though the recheck came before it was known.
func TestRightsEndMeanwhile(t *testing.T) {
	r := newRights("eve")
	long := r.long(t)
	server := front(t, Config{Upstream: newUpstream(t, endless).config(), Authenticators: []Authenticator{r}, Long: long})
	r.during = sync.OnceFunc(func() {
		r.change(func() { r.loggedIn["eve"] = false })
		long.Recheck(t.Context())
	})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/v1/events?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("User", "eve")
	response, err := server.Client().Do(request)
	if err != nil {
		return // It was cut before it was answered.
	}
	defer response.Body.Close()
	if _, err := io.ReadAll(response.Body); err == nil && response.StatusCode == http.StatusOK {
		t.Error("the watch went on to a whole end")
	}
}

// TestQuestion: RBAC is asked again what the API server asked, about what goes on, and about nothing else.
func TestQuestion(t *testing.T) {
	const group = "/apis/slipway.dev/v1alpha1"
	for name, tc := range map[string]struct {
		method, target, upgrade string
		want                    *authorizationv1.ResourceAttributes
		path                    *authorizationv1.NonResourceAttributes
	}{
		"list":          {target: group + "/namespaces/dev/clusters"},
		"get":           {target: group + "/namespaces/dev/clusters/demo"},
		"no watch":      {target: group + "/namespaces/dev/clusters?watch=false"},
		"create":        {method: "POST", target: group + "/namespaces/dev/clusters?watch=true"},
		"watch":         {target: group + "/namespaces/dev/clusters?watch=1", want: &authorizationv1.ResourceAttributes{Verb: "watch", Group: "slipway.dev", Version: "v1alpha1", Resource: "clusters", Namespace: "dev"}},
		"watch of one":  {target: group + "/users?watch=true&fieldSelector=metadata.name%3Deve", want: &authorizationv1.ResourceAttributes{Verb: "watch", Group: "slipway.dev", Version: "v1alpha1", Resource: "users", Name: "eve"}},
		"odd watch":     {target: "/api/v1/namespaces/dev/events?watch=yes&limit=x", want: &authorizationv1.ResourceAttributes{Verb: "watch", Version: "v1", Resource: "events", Namespace: "dev"}},
		"old watch":     {target: "/api/v1/watch/namespaces/dev/events", want: &authorizationv1.ResourceAttributes{Verb: "watch", Version: "v1", Resource: "events", Namespace: "dev"}},
		"upgrade":       {method: "POST", target: "/api/v1/namespaces/dev/pods/p/exec", upgrade: "SPDY/3.1", want: &authorizationv1.ResourceAttributes{Verb: "create", Version: "v1", Resource: "pods", Subresource: "exec", Namespace: "dev", Name: "p"}},
		"other upgrade": {target: "/version", upgrade: "websocket", path: &authorizationv1.NonResourceAttributes{Path: "/version", Verb: "get"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRights("eve")
			long := r.long(t)
			request := httptest.NewRequestWithContext(t.Context(), tc.method, tc.target, nil)
			if tc.upgrade != "" {
				request.Header.Set("Connection", "Upgrade")
				request.Header.Set("Upgrade", tc.upgrade)
			}
			may, goesOn := long.api(request)
			if goesOn != (tc.want != nil || tc.path != nil) {
				t.Fatalf("it goes on: %t", goesOn)
			}
			if !goesOn {
				return
			}
			who, _, _ := r.Authenticate(&http.Request{Header: http.Header{"User": {"eve"}}})
			if ok, err := may(t.Context(), who); !ok || err != nil {
				t.Fatalf("%t, %v", ok, err)
			}
			want := []authorizationv1.SubjectAccessReviewSpec{{User: "eve", UID: "7", Groups: []string{"team"}, Extra: map[string]authorizationv1.ExtraValue{"a": {"b"}},
				ResourceAttributes: tc.want, NonResourceAttributes: tc.path}}
			if diff := cmp.Diff(want, r.asked); diff != "" {
				t.Errorf("question (-want +got):\n%s", diff)
			}
		})
	}
}

// hold makes a request of eve one that is rechecked, and gives its context.
func hold(t *testing.T, r *rights, long *Long) context.Context {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/events?watch=true", nil)
	request.Header.Set("User", "eve")
	request = long.arrive(request)
	who, _, err := r.Authenticate(request)
	if err != nil {
		t.Fatal(err)
	}
	may, _ := long.api(request)
	request, done := long.hold(request, who, may)
	t.Cleanup(done)
	return request.Context()
}

// TestRun: a change is followed at once, however many there are, and the clock ends what no change does.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRights("eve", "ann")
		long := r.long(t)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			long.Run(ctx)
			close(ended)
		}()
		first := hold(t, r, long)
		<-time.After(10 * time.Second) // The checks at the start are over.
		before := r.questions()
		r.change(func() { r.allowed["eve"] = false })
		for range 100 {
			long.Changed()
			<-time.After(time.Millisecond)
		}
		if !errors.Is(context.Cause(first), cut{}) {
			t.Error("100 ms after the change the watch goes on")
		}
		if asked := r.questions() - before; asked > 3 {
			t.Errorf("RBAC was asked %d times for one burst of changes", asked)
		}
		r.change(func() { r.allowed["eve"] = true })
		second := hold(t, r, long)
		// RBAC hears of the change later than the server does.
		long.Changed()
		<-time.After(500 * time.Millisecond)
		r.change(func() { r.allowed["eve"] = false })
		<-time.After(time.Second)
		if !errors.Is(context.Cause(second), cut{}) {
			t.Error("a change that RBAC saw late is not followed")
		}
		r.change(func() { r.allowed["eve"] = true })
		third := hold(t, r, long)
		<-time.After(5 * time.Second)
		// The token has come to its end: nothing changed but the time.
		r.change(func() { r.loggedIn["eve"] = false })
		<-time.After(time.Minute)
		if !errors.Is(context.Cause(third), cut{}) {
			t.Error("a minute after the token has ended the watch goes on")
		}
		stop()
		<-ended
	})
}

// TestUnsure: while RBAC cannot be asked nobody is cut off at once, and nobody goes on for ever.
func TestUnsure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRights("eve")
		long := r.long(t)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go long.Run(ctx)
		watch := hold(t, r, long)
		r.change(func() { r.broken = errors.New("no API") })
		<-time.After(unsureFor)
		if err := context.Cause(watch); err != nil {
			t.Errorf("it was ended too early: %v", err)
		}
		<-time.After(2 * time.Minute)
		if !errors.Is(context.Cause(watch), cut{}) {
			t.Error("it goes on though nobody knows whether it may")
		}
	})
}

// TestKeepWhile: a route may ask for more than its rule.
func TestKeepWhile(t *testing.T) {
	r := newRights("eve")
	long := r.long(t)
	watch := hold(t, r, long)
	may := true
	KeepWhile(watch, func(_ context.Context, who user.Info) (bool, error) {
		if who.GetName() != "eve" {
			return false, fmt.Errorf("asked about %s", who.GetName())
		}
		return may, nil
	})
	long.Recheck(t.Context())
	if err := context.Cause(watch); err != nil {
		t.Fatalf("it was ended: %v", err)
	}
	may = false
	long.Recheck(t.Context())
	if !errors.Is(context.Cause(watch), cut{}) {
		t.Error("it goes on against its condition")
	}
	KeepWhile(t.Context(), nil) // Elsewhere it does nothing.
}
