package stream

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/blob"
	"slipway.dev/slipway/internal/gateway"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/step"
)

// person lets in whoever the header User names.
type person struct{}

func (person) Authenticate(r *http.Request) (user.Info, bool, error) {
	name := r.Header.Get("User")
	return &user.DefaultInfo{Name: name, UID: "7", Groups: []string{"team"}, Extra: map[string][]string{"scope": {"a"}}}, name != "", nil
}

// world is the handler behind a gateway.
type world struct {
	t      *testing.T
	client client.WithWatch
	blobs  *blob.Directory
	server *httptest.Server
	// asked holds what RBAC was asked, allowed what it answers.
	asked   []authorizationv1.SubjectAccessReviewSpec
	allowed func(*authorizationv1.ResourceAttributes) bool
	broken  error
}

// lagging is a store that notices no growth before it is told to stop.
type lagging struct{ *blob.Directory }

func (lagging) Follow(ctx context.Context, _ string, _ int64, _ func([]byte) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func newWorld(t *testing.T, lags bool, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, authorizationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, allowed: func(*authorizationv1.ResourceAttributes) bool { return true }}
	w.client = clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.Operation{}).
		WithInterceptorFuncs(interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			review, ok := o.(*authorizationv1.SubjectAccessReview)
			if !ok {
				return c.Create(ctx, o, opts...)
			}
			if w.broken != nil {
				return w.broken
			}
			w.asked = append(w.asked, review.Spec)
			review.Status.Allowed = w.allowed(review.Spec.ResourceAttributes)
			return nil
		}}).Build()
	var err error
	if w.blobs, err = blob.Dir(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	deps := Deps{Client: w.client, Blobs: w.blobs, Log: slog.New(slog.DiscardHandler)}
	if lags {
		deps.Blobs = lagging{w.blobs}
	}
	routes, err := gateway.NewRoutes(gateway.RouteDeps{Access: access.NewAuthorizer(w.client), Audit: audit.Discard{}}, Routes(deps)...)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := gateway.NewHandler(gateway.Config{Upstream: &rest.Config{Host: "https://127.0.0.1:1"}, Authenticators: []gateway.Authenticator{person{}}, Routes: routes})
	if err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewServer(handler)
	t.Cleanup(func() {
		w.server.Close()
		_ = w.blobs.Close()
	})
	return w
}

func (w *world) put(name, content string) {
	w.t.Helper()
	if err := w.blobs.Put(w.t.Context(), name, []byte(content)); err != nil {
		w.t.Fatal(err)
	}
}

// open sends a request as ann; the caller closes the body.
func (w *world) open(method, path string) *http.Response {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.server.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("User", "ann")
	response, err := w.server.Client().Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	return response
}

// ask sends a request as ann and gives the code and the whole body.
func (w *world) ask(method, path string) (int, string) {
	w.t.Helper()
	response := w.open(method, path)
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

func op(phase v1alpha1.OperationPhase) *v1alpha1.Operation {
	return &v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "op"}, Status: v1alpha1.OperationStatus{Phase: phase}}
}

const (
	operationPath = "/slipway/v1/projects/dev/operations/op"
	storedPlan    = `{"format":1,"hosts":[{"name":"c1"},{"name":"w1"}]}`
)

// TestForbidden: RBAC is asked about exactly what is wanted, and nothing is read when it says no.
func TestForbidden(t *testing.T) {
	cases := map[string]struct {
		reason, method, path string
		want                 authorizationv1.ResourceAttributes
	}{
		"plan": {reason: "a plan names hosts", method: "GET", path: operationPath + "/plan", want: authorizationv1.ResourceAttributes{Verb: "get", Resource: "operations", Subresource: "plan", Name: "op"}},
		"log":  {reason: "a log says what ran", method: "GET", path: operationPath + "/log?follow=true", want: authorizationv1.ResourceAttributes{Verb: "get", Resource: "operations", Subresource: "log", Name: "op"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, false, op(v1alpha1.OperationSucceeded))
			w.put(operation.PlanName("dev", "op"), storedPlan)
			w.allowed = func(*authorizationv1.ResourceAttributes) bool { return false }
			code, body := w.ask(tc.method, tc.path)
			var status metav1.Status
			if err := json.Unmarshal([]byte(body), &status); err != nil || code != http.StatusForbidden || status.Reason != metav1.StatusReasonForbidden || status.Kind != "Status" {
				t.Errorf("%s: %d %s", tc.reason, code, body)
			}
			tc.want.Group, tc.want.Version, tc.want.Namespace = "slipway.dev", "*", "dev"
			want := []authorizationv1.SubjectAccessReviewSpec{{User: "ann", UID: "7", Groups: []string{"team"}, Extra: map[string]authorizationv1.ExtraValue{"scope": {"a"}}, ResourceAttributes: &tc.want}}
			if diff := cmp.Diff(want, w.asked); diff != "" {
				t.Errorf("question to RBAC (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		w := newWorld(t, false)
		response, err := w.server.Client().Get(w.server.URL + operationPath + "/plan")
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("a request without a user: %s", response.Status)
		}
	})
	t.Run("RBAC away", func(t *testing.T) {
		w := newWorld(t, false, op(v1alpha1.OperationSucceeded))
		w.broken = errors.New("no API")
		if code, _ := w.ask("GET", operationPath+"/plan"); code != http.StatusInternalServerError {
			t.Errorf("%d: who cannot be judged is not let in", code)
		}
	})
}

func TestUnknownPaths(t *testing.T) {
	w := newWorld(t, false, op(v1alpha1.OperationSucceeded))
	for name, tc := range map[string]struct {
		method, path string
		code         int
	}{
		"root":          {"GET", "/slipway/v1/", http.StatusNotFound},
		"other version": {"GET", "/slipway/v2/projects/dev/operations/op/plan", http.StatusNotFound},
		"other part":    {"GET", operationPath + "/secrets", http.StatusNotFound},
		"object":        {"GET", operationPath, http.StatusNotFound},
		"no plan":       {"GET", operationPath + "/plan", http.StatusNotFound},
		"no operation":  {"GET", "/slipway/v1/projects/dev/operations/none/log", http.StatusNotFound},
		"out of store":  {"GET", "/slipway/v1/projects/dev/operations/..%2F..%2Fx/plan", http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			if code, body := w.ask(tc.method, tc.path); code != tc.code {
				t.Errorf("%s %s: %d, want %d: %s", tc.method, tc.path, code, tc.code, body)
			}
		})
	}
}

func TestPlan(t *testing.T) {
	w := newWorld(t, false, op(v1alpha1.OperationPlanned))
	w.put(operation.PlanName("dev", "op"), storedPlan)
	code, body := w.ask("GET", operationPath+"/plan")
	if want := `{"plan":` + storedPlan + "}\n"; code != http.StatusOK || body != want {
		t.Errorf("%d %s, want the plan alone", code, body)
	}
	preview, err := json.Marshal(operation.Preview{Hosts: []operation.HostPreview{{Host: "w1", Calls: []operation.CallPreview{
		{Stage: "prepare", Call: "kernel", State: operation.PreviewDrift, Drift: step.Drift{{What: "vm.x", Have: "0", Want: "1"}}},
		{Stage: "join", Call: "join", State: operation.PreviewAfter, After: "allow-join on c1"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	w.put(operation.PreviewName("dev", "op"), string(preview))
	code, body = w.ask("GET", operationPath+"/plan")
	want := `{"plan":` + storedPlan + `,"preview":[{"host":"w1","step":"kernel","state":"drift","drift":[{"what":"vm.x","have":"0","want":"1"}]},` +
		`{"host":"w1","step":"join","state":"after","after":"allow-join on c1"}]}` + "\n"
	if code != http.StatusOK || body != want {
		t.Errorf("%d %s, want %s", code, body, want)
	}
}

func TestLog(t *testing.T) {
	w := newWorld(t, false, op(v1alpha1.OperationSucceeded))
	w.put(operation.PlanName("dev", "op"), storedPlan)
	w.put(operation.LogName("dev", "op", "c1"), "{\"n\":1}\n")
	w.put(operation.LogName("dev", "op", "w1"), "{\"n\":2}\n")
	for name, tc := range map[string]struct {
		query string
		code  int
		want  string
	}{
		"all":          {"", http.StatusOK, "{\"n\":1}\n{\"n\":2}\n"},
		"one host":     {"?host=w1", http.StatusOK, "{\"n\":2}\n"},
		"no such host": {"?host=w9", http.StatusNotFound, ""},
		"ended":        {"?follow=true", http.StatusOK, "{\"n\":1}\n{\"n\":2}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := w.ask("GET", operationPath+"/log"+tc.query)
			if code != tc.code || (tc.want != "" && body != tc.want) {
				t.Errorf("%d %q, want %d %q", code, body, tc.code, tc.want)
			}
		})
	}
	t.Run("before a plan", func(t *testing.T) {
		if code, body := newWorld(t, false, op("")).ask("GET", operationPath+"/log"); code != http.StatusOK || body != "" {
			t.Errorf("%d %q, want nothing", code, body)
		}
	})
}

func (w *world) end() {
	w.t.Helper()
	o := op("")
	if err := w.client.Get(w.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		w.t.Fatal(err)
	}
	o.Status.Phase = v1alpha1.OperationSucceeded
	if err := w.client.Status().Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// TestFollow: lines come as they are written, and the stream ends with the operation.
func TestFollow(t *testing.T) {
	w := newWorld(t, false, op(v1alpha1.OperationRunning))
	w.put(operation.PlanName("dev", "op"), storedPlan)
	w.put(operation.LogName("dev", "op", "w1"), "{\"n\":1}\n")
	response := w.open("GET", operationPath+"/log?follow=true&host=w1")
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for n := 1; n <= 3; n++ {
		if !lines.Scan() || lines.Text() != fmt.Sprintf(`{"n":%d}`, n) {
			t.Fatalf("line %d is %q: %v", n, lines.Text(), lines.Err())
		}
		if n == 3 {
			break
		}
		if err := w.blobs.Append(t.Context(), operation.LogName("dev", "op", "w1"), fmt.Appendf(nil, "{\"n\":%d}\n", n+1)); err != nil {
			t.Fatal(err)
		}
	}
	w.end()
	if lines.Scan() {
		t.Errorf("a line more than was written: %q", lines.Text())
	}
}

// TestFollowKeepsLastLines: what was written just before the end is not lost, however late its growth is noticed.
func TestFollowKeepsLastLines(t *testing.T) {
	w := newWorld(t, true, op(v1alpha1.OperationRunning))
	w.put(operation.PlanName("dev", "op"), storedPlan)
	response := w.open("GET", operationPath+"/log?follow=true")
	defer response.Body.Close()
	w.put(operation.LogName("dev", "op", "w1"), "{\"n\":\"last\"}\n")
	w.end()
	b, err := io.ReadAll(response.Body)
	if err != nil || string(b) != "{\"n\":\"last\"}\n" {
		t.Errorf("%q, %v", b, err)
	}
}
