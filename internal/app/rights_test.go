package app

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/gateway"

	hostcontroller "slipway.dev/slipway/internal/controller/host"
)

// moment is the longest that a watch may outlive the right to it.
const moment = 5 * time.Second

// testRightsEnd: a watch of the real API ends when the right to it does, and nobody else's does.
func testRightsEnd(t *testing.T, w *accessWorld) {
	sessions, tokens := auth.NewSessions(w.server), auth.NewTokens(w.server)
	front, long := w.gateway(t, tokens, sessions)
	people := map[string]struct {
		reason  string
		session bool
		life    time.Duration
		end     func(*testing.T, *v1alpha1.User, *auth.Token)
	}{
		"wanda": {reason: "the user is disabled", end: func(t *testing.T, u *v1alpha1.User, _ *auth.Token) {
			w.patch(t, u, `{"spec":{"disabled":true}}`)
		}},
		"will": {reason: "the user is deleted", end: func(t *testing.T, u *v1alpha1.User, _ *auth.Token) {
			if err := w.server.Delete(t.Context(), u); err != nil {
				t.Fatal(err)
			}
		}},
		"wes": {reason: "the member is removed", end: func(t *testing.T, u *v1alpha1.User, _ *auth.Token) { w.removeMember(t, "watched", u.Name) }},
		"wim": {reason: "the token is revoked", end: func(t *testing.T, u *v1alpha1.User, token *auth.Token) {
			if err := tokens.EndAll(t.Context(), u.Name, ""); err != nil {
				t.Fatal(err)
			}
		}},
		"wren": {reason: "the session is ended", session: true, end: func(t *testing.T, u *v1alpha1.User, _ *auth.Token) {
			if err := sessions.EndAll(t.Context(), u.Name, ""); err != nil {
				t.Fatal(err)
			}
		}},
		"walt": {reason: "the token has expired", life: 3 * time.Second, end: func(t *testing.T, _ *v1alpha1.User, token *auth.Token) {
			timer := time.NewTimer(time.Until(token.Expires))
			defer timer.Stop()
			<-timer.C
			long.Recheck(t.Context()) // As the clock does each minute.
		}},
		"wally": {reason: "nothing happened to this one"},
	}
	project := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: "watched"}}
	for name := range people {
		project.Spec.Members = append(project.Spec.Members, v1alpha1.ProjectMember{Name: name, Role: v1alpha1.ReadOnly})
	}
	w.project(t, project)
	users, given, watches := map[string]*v1alpha1.User{}, map[string]*auth.Token{}, map[string]*watch{}
	for name, p := range people {
		users[name] = &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: name}}
		w.create(t, users[name])
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+"/apis/slipway.dev/v1alpha1/namespaces/watched/clusters?watch=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		if p.session {
			session, err := sessions.Open(t.Context(), users[name], nil, auth.Origin{})
			if err != nil {
				t.Fatal(err)
			}
			request.AddCookie(session.Cookie())
		} else {
			if given[name], err = tokens.Login(t.Context(), users[name], nil, auth.TokenRequest{Name: "watch", Life: cmp.Or(p.life, time.Hour)}); err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer "+given[name].Secret)
		}
		watches[name] = openWatch(t, front, request)
	}
	for name, p := range people {
		if p.end == nil {
			continue
		}
		if p.life == 0 && watches[name].over() {
			t.Fatalf("the watch of %s ended before anything happened", name)
		}
		p.end(t, users[name], given[name])
		began := time.Now()
		select {
		case <-watches[name].ended:
			t.Logf("%s: the watch ended after %s", p.reason, time.Since(began).Round(time.Millisecond))
		case <-time.After(moment):
			t.Errorf("%s, and the watch goes on", p.reason)
		}
	}
	w.patch(t, users["wally"], `{"spec":{"displayName":"Wally"}}`)
	w.create(t, &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "watched", Name: "late"}, Spec: v1alpha1.ClusterSpec{
		Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.36.3"}, ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{"cp1"}},
	}})
	select {
	case line := <-watches["wally"].lines:
		if !strings.Contains(line, `"name":"late"`) {
			t.Errorf("the watch of another person says %s", line)
		}
	case <-watches["wally"].ended:
		t.Error("the watch of another person ended")
	case <-time.After(moment):
		t.Error("the watch of another person says nothing")
	}
}

// watch is a watch that a person has open.
type watch struct {
	lines chan string
	ended chan struct{}
}

func openWatch(t *testing.T, front *httptest.Server, request *http.Request) *watch {
	t.Helper()
	var response *http.Response
	// RBAC hears of new bindings from a watch of its own.
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		var err error
		if response, err = front.Client().Do(request); err != nil || response.StatusCode == http.StatusOK {
			return true, err
		}
		return false, response.Body.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &watch{lines: make(chan string, 16), ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		defer response.Body.Close()
		for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
			w.lines <- scanner.Text()
		}
	}()
	return w
}

func (w *watch) over() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

// gateway serves the port before the real API, wired as RunServer does.
func (w *accessWorld) gateway(t *testing.T, authenticators ...gateway.Authenticator) (*httptest.Server, *gateway.Long) {
	t.Helper()
	long := gateway.NewLong(gateway.LongDeps{Authenticators: authenticators, Client: w.server})
	informers, err := cache.New(w.config, cache.Options{Scheme: w.scheme, ByObject: hostcontroller.CacheByObject()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	if err := watchRights(ctx, informers, long.Changed); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- informers.Start(ctx) }()
	go func() {
		long.Run(ctx)
		ended <- nil
	}()
	if !informers.WaitForCacheSync(ctx) {
		t.Fatal("the watches did not begin")
	}
	handler, err := gateway.NewHandler(gateway.Config{Upstream: w.config, Authenticators: authenticators, Long: long})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(handler)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return front, long
}

func (w *accessWorld) patch(t *testing.T, o client.Object, patch string) {
	t.Helper()
	if err := merge(o, patch)(t.Context(), w.server); err != nil {
		t.Fatal(err)
	}
}

// removeMember takes one person's role away, as the project's controller does.
func (w *accessWorld) removeMember(t *testing.T, project, name string) {
	t.Helper()
	var bindings rbacv1.RoleBindingList
	if err := w.server.List(t.Context(), &bindings, client.InNamespace(project)); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, b := range bindings.Items {
		subjects := slices.DeleteFunc(slices.Clone(b.Subjects), func(s rbacv1.Subject) bool { return s.Name == name })
		if b.RoleRef.Name != access.RoleReadOnly || len(subjects) == len(b.Subjects) {
			continue
		}
		b.Subjects = subjects
		if err := w.server.Update(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		found++
	}
	if found != 1 {
		t.Fatal(fmt.Errorf("%s was a member by %d bindings", name, found))
	}
}
