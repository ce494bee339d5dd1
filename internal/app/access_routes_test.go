package app

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/gateway"

	clusteraccess "slipway.dev/slipway/internal/step/access"
)

// routeRow says of one route what is sent, and who gets it.
type routeRow struct {
	// name is the {name} of the path; nil means none. It may make what is named.
	name func(t *testing.T, p *accessPort, column string) string
	body string
	// may lists who gets it; everybody else who is logged in is refused, and who is not gets 401.
	may []string
	// all is what everybody gets from a route that is open before login.
	all string
	// but is what single columns get, for a reason that is not access.
	but map[string]string
}

func (r routeRow) want(column string) string {
	switch {
	case r.but[column] != "":
		return r.but[column]
	case r.all != "":
		return r.all
	case !slices.Contains(tableLoggedIn(), column):
		return "401"
	case slices.Contains(r.may, column):
		return "yes"
	}
	return "no"
}

func alwaysNamed(name string) func(*testing.T, *accessPort, string) string {
	return func(*testing.T, *accessPort, string) string { return name }
}

// routeRows says who may use which route. It is written from the rules of design.md and docs/security.md.
func routeRows() map[string]routeRow {
	const inDev = "/slipway/v1/projects/{project}"
	everybody, readers := tableLoggedIn(), []string{asReader, asOperator, asOwner, asAuditor, asSystem, asRoot}
	members, writers := []string{asReader, asOperator, asOwner, asSystem, asRoot}, []string{asOwner, asSystem, asRoot}
	fixture, demo, newcomer := alwaysNamed("fixture"), alwaysNamed("demo"), alwaysNamed("newcomer")
	session := func(t *testing.T, p *accessPort, column string) string {
		u := p.users[column]
		if u == nil || column == asDisabled {
			return "none"
		}
		s, err := p.door.people.Sessions.Open(t.Context(), u, nil, auth.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	token := func(t *testing.T, p *accessPort, column string) string {
		id, _, _ := strings.Cut(strings.TrimPrefix(p.token(t, column), "slp_"), "_")
		if column == asNobody || column == asRoot {
			return "none"
		}
		return id
	}
	// What an auditor sees of a cluster is its Kubernetes API, through the proxy; a kubeconfig is a way in to work.
	rows := map[string]routeRow{
		"GET /slipway/setup":             {all: "yes"},
		"GET /slipway/login":             {all: "yes"},
		"GET /slipway/login.js":          {all: "yes"},
		"GET /slipway/login.css":         {all: "yes"},
		"GET /slipway/ca.crt":            {all: "yes"},
		"POST /slipway/v1/setup":         {all: "410", body: `{"token":"x","password":"` + tablePassword + `"}`},
		"POST /slipway/v1/login":         {all: "yes", body: `{"user":"newcomer","password":"` + tablePassword + `","token":true}`},
		"GET /slipway/v1/oidc/start":     {all: "404"},
		"GET /slipway/v1/oidc/callback":  {all: "400"},
		"POST /slipway/v1/oidc/exchange": {all: "401", body: `{}`},

		"GET /slipway/v1/me":          {may: everybody},
		"GET /slipway/v1/me/sessions": {may: everybody},
		"GET /slipway/v1/me/tokens":   {may: everybody},
		"POST /slipway/v1/me/tokens":  {may: everybody, body: `{"name":"another"}`},
		// The admin token has no session and no token of its own that could end.
		"POST /slipway/v1/logout":                {may: everybody, but: map[string]string{asRoot: "400"}},
		"DELETE /slipway/v1/me/sessions/{name}":  {may: everybody, name: session, but: map[string]string{asRoot: "404"}},
		"DELETE /slipway/v1/me/tokens/{name}":    {may: everybody, name: token, but: map[string]string{asRoot: "404"}},
		"POST /slipway/v1/me/password":           {may: everybody, body: `{"current":"` + tablePassword + `","new":"another good phrase 8"}`},
		"POST /slipway/v1/users/{name}/password": {may: []string{asSystem, asRoot}, name: newcomer, body: `{"password":"` + tablePassword + `","mustChange":false}`},

		"GET /slipway/v1/projects":  {may: everybody},
		"GET " + inDev + "/hosts":   {may: readers},
		"GET " + inDev + "/bundles": {may: readers},

		"GET " + inDev + "/operations/{name}/plan": {may: readers, name: fixture},
		"GET " + inDev + "/operations/{name}/log":  {may: readers, name: fixture},

		"GET /slipway/v1/audit":        {may: []string{asAuditor, asSystem, asRoot}},
		"GET /slipway/v1/audit/export": {may: []string{asAuditor, asSystem, asRoot}},
		"GET " + inDev + "/audit":      {may: []string{asOwner, asAuditor, asSystem, asRoot}},

		"POST " + inDev + "/clusters/{name}/kubeconfig":     {may: members, name: demo, body: `{"hours":1}`},
		"POST " + inDev + "/clusters/{name}/breakglass":     {may: writers, name: demo, body: `{"reason":"the table of access"}`},
		"GET " + inDev + "/clusters/{name}/proxy/{path...}": {may: readers, name: demo},
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		rows[method+" "+inDev+"/clusters/{name}/proxy/{path...}"] = routeRow{may: []string{asOperator, asOwner, asSystem, asRoot}, name: demo}
	}
	return rows
}

// managedCluster is an API server that has the roles which Slipway keeps in every cluster.
func managedCluster(t *testing.T) func(context.Context, string, string) (*rest.Config, error) {
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		groups := r.Header.Values("Impersonate-Group")
		views := slices.Contains(groups, clusteraccess.Viewers) && r.Method == http.MethodGet
		if !strings.HasPrefix(r.Header.Get("Impersonate-User"), "slipway:") || !views && !slices.Contains(groups, clusteraccess.Administrators) {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	api.EnableHTTP2 = true
	api.StartTLS()
	t.Cleanup(api.Close)
	return func(context.Context, string, string) (*rest.Config, error) {
		return &rest.Config{
			Host: api.URL, Dial: (&net.Dialer{}).DialContext,
			TLSClientConfig: rest.TLSClientConfig{CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})},
		}, nil
	}
}

func (p *accessPort) routesPart(t *testing.T) string {
	rows := routeRows()
	var b strings.Builder
	b.WriteString(routesIntroduction + tableHead("route | rule"))
	for _, route := range p.door.routes() {
		name := route.Method + " " + route.Path
		r, known := rows[name]
		if !known {
			t.Errorf("%s has no row: write in routeRows who may use it", name)
			continue
		}
		delete(rows, name)
		if (r.all != "") != route.Rule.Open {
			t.Errorf("%s: its rule says %s, its row says otherwise", name, route.Rule)
		}
		done := &tableRow{name: name, got: map[string]string{}, want: r.want}
		for _, column := range tableColumns() {
			q := tableRequest{method: route.Method, body: r.body, begins: route.Long && route.Method == http.MethodGet}
			named := ""
			if r.name != nil {
				named = r.name(t, p, column)
			}
			// One token for each, since some of these end it.
			q.token = p.token(t, column)
			q.path = strings.NewReplacer("{project}", "dev", "{name}", named, "{path...}", "api/v1/namespaces/default/pods").Replace(route.Path)
			code, body, err := p.ask(t.Context(), column, q)
			if err != nil {
				t.Fatalf("%s as %s: %v", name, column, err)
			}
			done.got[column] = tableCell(code)
			if done.got[column] != r.want(column) {
				t.Logf("%s as %s: %d %.300s", name, column, code, body)
			}
			if !strings.Contains(route.Path, "/login") {
				p.leaks(t, name, column, "", body)
			}
		}
		checkRows(t, []*tableRow{done})
		b.WriteString(done.line(name + " | " + route.Rule.String()))
	}
	for name := range rows {
		t.Errorf("%s has a row, and there is no such route", name)
	}
	return b.String()
}

// apiPaths are the paths of the API server that are no resources, as it lists them, and some that must not be there.
func (p *accessPort) apiPaths(t *testing.T) []string {
	t.Helper()
	var index metav1.RootPaths
	if err := p.raw(t, "/", &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Paths) < 20 {
		t.Fatalf("the API server lists only %d paths", len(index.Paths))
	}
	return append(index.Paths, "/", "/debug/pprof/", "/logs/", "/configz", "/flagz", "/slipway", "/slipway/", "/slipway/v1/none", "/livez/", "/v2x")
}

// wantPath says who gets a path. Which kinds there are is no secret among those who are logged in; how the server does is
// for root alone.
func wantPath(path, column string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case first == "v2":
		return "401" // The registry knows clusters, and no person.
	case path == "/livez", path == "/readyz":
		return "yes"
	case !slices.Contains(tableLoggedIn(), column):
		return "401"
	case strings.HasPrefix(path, "/slipway/"), path == "/openapi/v3/":
		return "404"
	case slices.Contains([]string{"api", "apis", "openapi", "version"}, first), path == "/healthz":
		return "yes"
	case column != asRoot:
		return "no"
	case slices.Contains([]string{"/logs/", "/configz", "/flagz", "/slipway", "/livez/", "/v2x"}, path):
		return "404"
	}
	return "yes"
}

// pathName gives the row of a path: what is below one is one row, so that the page does not change with every part of
// the API server that has a check of its own.
func pathName(path string) string {
	for _, many := range []string{"/healthz/", "/livez/", "/readyz/", "/apis/"} {
		if strings.HasPrefix(path, many) && path != many {
			return many + "…"
		}
	}
	return path
}

func (p *accessPort) pathsPart(t *testing.T) string {
	paths := p.apiPaths(t)
	for _, o := range gateway.OpenPaths() {
		if !slices.Contains(paths, o) {
			paths = append(paths, o)
		}
	}
	slices.Sort(paths)
	rows, questions := make([]*tableRow, len(paths)), make([]tableRequest, len(paths))
	for n, path := range paths {
		rows[n] = &tableRow{name: "GET " + path, want: func(column string) string { return wantPath(path, column) }}
		questions[n] = tableRequest{method: http.MethodGet, path: path}
	}
	p.fill(t, rows, questions)
	checkRows(t, rows)
	var b strings.Builder
	b.WriteString(pathsIntroduction + tableHead("path"))
	seen := map[string]string{}
	for n, r := range rows {
		name := pathName(paths[n])
		if was, known := seen[name]; known {
			if was != r.line("") {
				t.Errorf("%s is not like the others of %s", r.name, name)
			}
			continue
		}
		seen[name] = r.line("")
		b.WriteString(r.line("GET " + name))
	}
	return b.String()
}

// raw reads a path of the API server as the server itself.
func (w *accessWorld) raw(t *testing.T, path string, into any) error {
	t.Helper()
	content, err := kubernetes.NewForConfigOrDie(w.config).RESTClient().Get().AbsPath(path).Do(t.Context()).Raw()
	if err != nil {
		return err
	}
	return json.Unmarshal(content, into)
}
