package own

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
	"slipway.dev/slipway/internal/gateway"
)

// person lets in whoever the header User names, with a token for the projects that the header Projects names.
type person struct{}

func (person) Authenticate(r *http.Request) (user.Info, bool, error) {
	name := r.Header.Get("User")
	who := &user.DefaultInfo{Name: name, Groups: []string{"oidc:team"}, Extra: map[string][]string{}}
	if only := r.Header.Get("Projects"); only != "" {
		who.Extra["slipway.dev/projects"] = strings.Split(only, ",")
	}
	return who, name != "", nil
}

// world is the port in front of an API server that refuses everything.
type world struct {
	t      *testing.T
	client client.Client
	server *httptest.Server
	// allowed is what RBAC answers.
	allowed func(who string, what *authorizationv1.ResourceAttributes) bool
	broken  error
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, authorizationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, allowed: member}
	var mu sync.Mutex
	w.client = clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
			mu.Lock()
			defer mu.Unlock()
			review := o.(*authorizationv1.SubjectAccessReview)
			review.Status.Allowed = w.broken == nil && w.allowed(review.Spec.User, review.Spec.ResourceAttributes)
			return w.broken
		},
	}).Build()
	upstream := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusForbidden) }))
	authorizer := access.NewAuthorizer(w.client)
	deps := Deps{Client: w.client, Cache: w.client, Access: authorizer}
	routes, err := gateway.NewRoutes(gateway.RouteDeps{Access: authorizer, Audit: audit.Discard{}}, Routes(deps)...)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := gateway.NewHandler(gateway.Config{Upstream: &rest.Config{Host: upstream.URL}, Authenticators: []gateway.Authenticator{person{}},
		Routes: routes, Lists: Lists(deps)})
	if err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewServer(handler)
	t.Cleanup(func() {
		w.server.Close()
		upstream.Close()
	})
	return w
}

// member is RBAC in which ann is a member of dev, and admin may everything.
func member(who string, what *authorizationv1.ResourceAttributes) bool {
	if who == "admin" {
		return true
	}
	return who == "ann" && (what.Resource == "projects" && what.Verb == "get" && what.Name == "dev" ||
		what.Resource == "grants" && what.Verb == "list" && what.Namespace == "dev")
}

func (w *world) ask(path string, headers ...string) (int, string) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.server.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func projects() []client.Object {
	made := func(name string) client.Object {
		return &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Now().Add(-2 * time.Hour))}, Spec: v1alpha1.ProjectSpec{DisplayName: "the " + name},
			Status: v1alpha1.ProjectStatus{Clusters: 3, Conditions: []metav1.Condition{{Type: v1alpha1.ProjectReady, Status: metav1.ConditionTrue}}}}
	}
	return []client.Object{made("ops"), made("dev"), made("default")}
}

func TestProjects(t *testing.T) {
	const route, list = "/slipway/v1/projects", "/apis/slipway.dev/v1alpha1/projects"
	cases := map[string]struct {
		reason  string
		path    string
		headers []string
		code    int
		want    []string
	}{
		"nobody":               {reason: "there is no one to speak of", path: route, code: http.StatusUnauthorized},
		"a member":             {reason: "their own and no other name", path: route, headers: []string{"User", "ann"}, code: http.StatusOK, want: []string{"dev"}},
		"no member":            {reason: "an empty list, not an error", path: route, headers: []string{"User", "bob"}, code: http.StatusOK, want: []string{}},
		"admin":                {reason: "all are theirs", path: route, headers: []string{"User", "admin"}, code: http.StatusOK, want: []string{"default", "dev", "ops"}},
		"a token":              {reason: "one for another project shows nothing of this one", path: route, headers: []string{"User", "admin", "Projects", "ops"}, code: http.StatusOK, want: []string{"ops"}},
		"kubectl":              {reason: "kubectl get projects shows their own", path: list + "?limit=500", headers: []string{"User", "ann"}, code: http.StatusOK, want: []string{"dev"}},
		"kubectl, all":         {reason: "who may list all asks the API server", path: list, headers: []string{"User", "admin"}, code: http.StatusForbidden},
		"kubectl, token":       {reason: "one for another project lists none here", path: list, headers: []string{"User", "ann", "Projects", "ops"}, code: http.StatusForbidden},
		"kubectl watch":        {reason: "a watch is the API server's", path: list + "?watch=true", headers: []string{"User", "ann"}, code: http.StatusForbidden},
		"kubectl one":          {reason: "one object is the API server's", path: list + "/ops", headers: []string{"User", "ann"}, code: http.StatusForbidden},
		"kubectl, another API": {reason: "an exact path, and no other", path: "/apis/slipway.dev/v1alpha1/projects/", headers: []string{"User", "ann"}, code: http.StatusForbidden},
		"kubectl, nobody":      {reason: "not logged in comes first", path: list, code: http.StatusUnauthorized},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			code, body := newWorld(t, projects()...).ask(tc.path, tc.headers...)
			if code != tc.code {
				t.Fatalf("%s: %d %s, want %d", tc.reason, code, body, tc.code)
			}
			if tc.want == nil {
				return
			}
			var got v1alpha1.ProjectList
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			names := []string{}
			for _, p := range got.Items {
				names = append(names, p.Name)
				if p.Kind != "Project" || p.APIVersion != "slipway.dev/v1alpha1" {
					t.Errorf("%s: %s is %s %s", tc.reason, p.Name, p.APIVersion, p.Kind)
				}
			}
			if diff := cmp.Diff(tc.want, names); diff != "" || got.Kind != "ProjectList" {
				t.Errorf("%s: a %s (-want +got):\n%s", tc.reason, got.Kind, diff)
			}
		})
	}
	t.Run("RBAC cannot be asked", func(t *testing.T) {
		w := newWorld(t, projects()...)
		w.broken = errors.New("no answer")
		if code, body := w.ask(route, "User", "ann"); code != http.StatusInternalServerError || strings.Contains(body, "dev") {
			t.Errorf("%d %s: what is not known to be theirs must not be shown", code, body)
		}
	})
}

// TestTable: kubectl gets the columns that it shows to an administrator.
func TestTable(t *testing.T) {
	code, body := newWorld(t, projects()...).ask("/apis/slipway.dev/v1alpha1/projects", "User", "ann",
		"Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
	var got metav1.Table
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK {
		t.Fatalf("%d %v", code, err)
	}
	if got.Kind != "Table" || got.APIVersion != "meta.k8s.io/v1" || len(got.Rows) != 1 {
		t.Fatalf("%s", body)
	}
	if diff := cmp.Diff([]any{"dev", "the dev", "True", 3.0, "120m"}, got.Rows[0].Cells); diff != "" {
		t.Errorf("cells (-want +got):\n%s", diff)
	}
	if len(got.ColumnDefinitions) != len(got.Rows[0].Cells) {
		t.Errorf("%d columns for %d cells", len(got.ColumnDefinitions), len(got.Rows[0].Cells))
	}
}

func TestLent(t *testing.T) {
	host := func(name, holder string) client.Object {
		h := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.HostSpec{Address: "bastion.secret", Credential: "secret"}, Status: v1alpha1.HostStatus{
			InternalAddress: "10.9.0.21", Conditions: []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionTrue}},
			Facts: &v1alpha1.HostFacts{CPUs: 4, Memory: "7.8Gi", MemoryBytes: 8 << 30, OS: v1alpha1.HostOS{ID: "debian", Version: "12"}, Architecture: "amd64"}}}
		if holder != "" {
			h.Status.Holder = &v1alpha1.HostHolder{Cluster: holder}
		}
		return h
	}
	lend := func(project, name string, kind v1alpha1.GrantKind, object string) client.Object {
		return &v1alpha1.Grant{ObjectMeta: metav1.ObjectMeta{Namespace: project, Name: name}, Spec: v1alpha1.GrantSpec{Kind: kind, Name: object}}
	}
	objects := []client.Object{host("w1", "dev/demo"), host("w2", "ops/secret"), host("w3", ""),
		&v1alpha1.Bundle{ObjectMeta: metav1.ObjectMeta{Name: "v1.36.3"}, Spec: v1alpha1.BundleSpec{Enabled: new(bool)},
			Status: v1alpha1.BundleStatus{KubernetesVersion: "v1.36.3", Architectures: []string{"amd64"}}}, &v1alpha1.Bundle{ObjectMeta: metav1.ObjectMeta{Name: "v1.35.9"}}}
	cases := map[string]struct {
		reason string
		path   string
		who    string
		grants []client.Object
		code   int
		want   []string
	}{
		"named": {"what is lent, and what of it is not there", "dev/hosts", "ann",
			[]client.Object{lend("dev", "a", v1alpha1.GrantHost, "w1"), lend("dev", "b", v1alpha1.GrantHost, "w9"), lend("ops", "c", v1alpha1.GrantHost, "w3"), lend("dev", "d", v1alpha1.GrantBundle, "w2")},
			http.StatusOK, []string{"w1 4 CPUs, 7.8Gi, debian 12, amd64, in use by demo", "w9  NotFound"}},
		"everything": {"each once, in order", "dev/hosts", "ann",
			[]client.Object{lend("dev", "a", v1alpha1.GrantHost, "w1"), lend("dev", "all", v1alpha1.GrantHost, "*")},
			http.StatusOK, []string{"w1 4 CPUs, 7.8Gi, debian 12, amd64, in use by demo", "w2 4 CPUs, 7.8Gi, debian 12, amd64, in use", "w3 4 CPUs, 7.8Gi, debian 12, amd64, free"}},
		"nothing":         {"an empty list is no error", "dev/hosts", "ann", nil, http.StatusOK, []string{}},
		"bundles":         {"one that is off says so", "dev/bundles", "ann", []client.Object{lend("dev", "a", v1alpha1.GrantBundle, "v1.36.3")}, http.StatusOK, []string{"v1.36.3 Kubernetes v1.36.3, amd64, disabled NotEnabled"}},
		"another project": {"RBAC is asked about the project of the path", "ops/hosts", "ann", []client.Object{lend("ops", "a", v1alpha1.GrantHost, "w1")}, http.StatusForbidden, nil},
		"no member":       {"nothing of it", "dev/bundles", "bob", nil, http.StatusForbidden, nil},
		"nobody":          {"nothing of it", "dev/hosts", "", nil, http.StatusUnauthorized, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, slices.Concat(objects, tc.grants)...)
			code, body := w.ask("/slipway/v1/projects/"+tc.path, "User", tc.who)
			if code != tc.code {
				t.Fatalf("%s: %d %s", tc.reason, code, body)
			}
			if strings.Contains(body, "secret") {
				t.Errorf("%s: it tells what is no business of the project: %s", tc.reason, body)
			}
			if tc.want == nil {
				return
			}
			var got answer
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			lines := []string{}
			for _, l := range got.Items {
				lines = append(lines, strings.TrimSpace(l.Name+" "+l.Summary+" "+l.Reason))
			}
			if diff := cmp.Diff(tc.want, lines); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
