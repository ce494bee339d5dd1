package auditlog

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/gateway"
)

var key = bytes.Repeat([]byte{7}, 32)

// person is who a request is from, by its header Person.
type person struct{}

func (person) Authenticate(r *http.Request) (user.Info, bool, error) {
	name := r.Header.Get("Person")
	return &user.DefaultInfo{Name: name}, name != "", nil
}

// world is a gateway before a log: auditor may get audit in the platform, leader in the project dev alone.
func world(t *testing.T) (*audit.Log, *httptest.Server) {
	t.Helper()
	log, err := audit.Open(audit.Options{Dir: t.TempDir(), Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	scheme := runtime.NewScheme()
	if err := authorizationv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(interceptor.Funcs{Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
		review := o.(*authorizationv1.SubjectAccessReview)
		what := review.Spec.ResourceAttributes
		asked := what.Verb == "get" && what.Resource == "audit" && what.Group == "slipway.dev" && what.Name == ""
		review.Status.Allowed = asked && (review.Spec.User == "auditor" || review.Spec.User == "leader" && what.Namespace == "dev")
		return nil
	}}).Build()
	routes, err := gateway.NewRoutes(gateway.RouteDeps{Access: access.NewAuthorizer(c), Audit: log}, Routes(log)...)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := gateway.NewHandler(gateway.Config{Upstream: &rest.Config{Host: "http://127.0.0.1:1"}, Authenticators: []gateway.Authenticator{person{}}, Routes: routes, Audit: log})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	for _, e := range []audit.Event{
		{Actor: "alice", Via: "token:a", Verb: "create", Object: "clusters dev/blue", Project: "dev", From: "10.0.0.1", Code: 201, Result: audit.Allowed},
		{Actor: "bob", Via: "token:b", Verb: "delete", Object: "clusters ops/red", Project: "ops", From: "10.0.0.2", Code: 403, Result: audit.Refused, Reason: "Forbidden"},
		{Actor: "=cmd|' /C calc'!A0", Verb: "login", From: "10.0.0.3", Code: 401, Result: audit.Refused, Detail: map[string]string{"b": "2", "a": "+1"}},
		{Actor: "alice", Via: "token:a", Verb: "patch", Object: "clusters dev/blue", Project: "dev", From: "10.0.0.1", Code: 200, Result: audit.Allowed},
	} {
		log.Record(e)
	}
	return log, server
}

func ask(t *testing.T, server *httptest.Server, who, path string) (int, []byte, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Person", who)
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body.Bytes(), response.Header
}

// TestSearch asks as different people; line 1 is the start of the log.
func TestSearch(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, who, path string
		code              int
		want              []uint64
		next              uint64
		says              string
	}{
		"All":          {"an auditor sees all, the newest first", "auditor", "/slipway/v1/audit", 200, []uint64{5, 4, 3, 2, 1}, 0, ""},
		"Oldest":       {"or the oldest", "auditor", "/slipway/v1/audit?order=oldest", 200, []uint64{1, 2, 3, 4, 5}, 0, ""},
		"Page":         {"page by page", "auditor", "/slipway/v1/audit?limit=2", 200, []uint64{5, 4}, 4, ""},
		"Next":         {"and on", "auditor", "/slipway/v1/audit?limit=2&after=4", 200, []uint64{3, 2}, 2, ""},
		"Filters":      {"all filters together", "auditor", "/slipway/v1/audit?actor=alice&project=dev&verb=create&object=blue&result=Allowed&contains=10.0.0.1&since=2020-01-01&until=2100-01-01T00:00:00Z", 200, []uint64{2}, 0, ""},
		"People":       {"without the server's own", "auditor", "/slipway/v1/audit?people=true", 200, []uint64{5, 4, 3, 2}, 0, ""},
		"Empty":        {"a filter of a form that was left empty is none", "auditor", "/slipway/v1/audit?actor=&until=", 200, []uint64{5, 4, 3, 2, 1}, 0, ""},
		"Nothing":      {"nothing found is no error", "auditor", "/slipway/v1/audit?until=2020-01-01", 200, []uint64{}, 0, ""},
		"Project":      {"the leader of a project sees its lines", "leader", "/slipway/v1/projects/dev/audit", 200, []uint64{5, 2}, 0, ""},
		"ProjectOther": {"and no others, whatever is asked", "leader", "/slipway/v1/projects/dev/audit?project=ops", 200, []uint64{5, 2}, 0, ""},
		"OtherProject": {"nor another project's", "leader", "/slipway/v1/projects/ops/audit", 403, nil, 0, "leader may not get audit in project ops"},
		"Platform":     {"nor the platform's", "leader", "/slipway/v1/audit", 403, nil, 0, "leader may not get audit"},
		"Export":       {"nor the whole log", "leader", "/slipway/v1/audit/export", 403, nil, 0, "leader may not get audit"},
		"Nobody":       {"nobody sees nothing", "", "/slipway/v1/audit", 401, nil, 0, "log in"},
		"BadTime":      {"a time that is none", "auditor", "/slipway/v1/audit?since=yesterday", 400, nil, 0, "give a time as"},
		"BadLimit":     {"no limit without a limit", "auditor", "/slipway/v1/audit?limit=100000", 400, nil, 0, "from 1 to 1000"},
		"BadResult":    {"a result that is none", "auditor", "/slipway/v1/audit?result=ok", 400, nil, 0, "Allowed, Refused, Failed"},
		"BadName":      {"a filter spelled wrong does not show everything", "auditor", "/slipway/v1/audit?user=alice", 400, nil, 0, `\"user\" is not one`},
		"Twice":        {"nor one that is there twice", "auditor", "/slipway/v1/audit?actor=alice&actor=bob", 400, nil, 0, "there twice"},
		"BadQuery":     {"nor one that cannot be read", "auditor", "/slipway/v1/audit?actor=alice;x=%zz", 400, nil, 0, "cannot read the query"},
	} {
		t.Run(name, func(t *testing.T) {
			_, server := world(t)
			code, body, header := ask(t, server, tc.who, tc.path)
			if code != tc.code || !strings.Contains(string(body), tc.says) {
				t.Fatalf("%s: %d %s", tc.reason, code, body)
			}
			if header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: the answer may be cached", tc.reason)
			}
			if code != 200 {
				return
			}
			var page struct {
				Items []audit.Line
				Next  uint64
			}
			if err := json.Unmarshal(body, &page); err != nil || page.Items == nil {
				t.Fatalf("%v: %s", err, body)
			}
			got := []uint64{}
			for _, l := range page.Items {
				got = append(got, l.Seq)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || page.Next != tc.next {
				t.Errorf("%s: next %d, want %d; -want +got\n%s", tc.reason, page.Next, tc.next, diff)
			}
		})
	}
}

// TestDenied holds that who may not read the log leaves a line in it.
func TestDenied(t *testing.T) {
	log, server := world(t)
	ask(t, server, "leader", "/slipway/v1/audit?actor=bob")
	var last audit.Line
	if _, err := log.Search(t.Context(), audit.Query{Limit: 1}, func(line []byte) error { return json.Unmarshal(line, &last) }); err != nil {
		t.Fatal(err)
	}
	want := audit.Event{Actor: "leader", From: "127.0.0.1", Verb: "get", Object: "/slipway/v1/audit", Code: 403, Result: audit.Refused, Reason: "Forbidden"}
	if diff := cmp.Diff(want, last.Event, cmpopts.IgnoreFields(audit.Event{}, "Time")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestExport(t *testing.T) {
	log, server := world(t)
	head := log.Head()
	code, body, _ := ask(t, server, "auditor", "/slipway/v1/audit/export")
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	report, err := audit.Verify(bytes.NewReader(body), audit.Check{Key: key, Head: &head})
	if err != nil || report.Count > 0 || report.Lines != 5 || !report.Signed {
		t.Errorf("%+v, %v", report, err)
	}
	var last audit.Line
	if _, err := log.Search(t.Context(), audit.Query{Limit: 1}, func(line []byte) error { return json.Unmarshal(line, &last) }); err != nil {
		t.Fatal(err)
	}
	if e := last.Event; e.Verb != "export-audit" || e.Actor != "auditor" || e.Object != "audit" {
		t.Errorf("who takes the whole log away leaves no line: %+v", e)
	}
}

func TestTable(t *testing.T) {
	_, server := world(t)
	code, body, header := ask(t, server, "auditor", "/slipway/v1/audit?format=csv&order=oldest")
	if code != 200 || !strings.HasPrefix(header.Get("Content-Type"), "text/csv") {
		t.Fatalf("%d %v %s", code, header, body)
	}
	rows, err := csv.NewReader(bytes.NewReader(body)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprint(r[0], " ", r[2], " ", r[5], " ", r[6], " ", r[8], " ", r[11]))
	}
	want := []string{"seq actor verb object code detail", "1 system:slipway start audit 0 ", "2 alice create clusters dev/blue 201 ",
		"3 bob delete clusters ops/red 403 ", "4 '=cmd|' /C calc'!A0 login  401 a=+1 b=2", "5 alice patch clusters dev/blue 200 "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if _, body, _ := ask(t, server, "leader", "/slipway/v1/projects/dev/audit?format=csv"); strings.Contains(string(body), "ops") || strings.Count(string(body), "\n") != 3 {
		t.Errorf("the table of a project: %s", body)
	}
}

// TestSearchTime holds that a search that takes long answers with what it has and where to go on.
func TestSearchTime(t *testing.T) {
	slow := slowLog{}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/slipway/v1/audit", nil)
	w := httptest.NewRecorder()
	if err := (handler{slow}).search(w, r); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(w.Body.String()); got != `{"items":[{"seq":9}],"next":7}` {
		t.Errorf("got %s", got)
	}
}

type slowLog struct{ Log }

func (slowLog) Search(_ context.Context, _ audit.Query, see func([]byte) error) (uint64, error) {
	if err := see([]byte(`{"seq":9}` + "\n")); err != nil {
		return 0, err
	}
	return 7, context.DeadlineExceeded
}
