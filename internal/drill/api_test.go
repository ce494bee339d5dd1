package drill

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// served answers as an API server does; everything that is listed must be asked for at revision 7.
func served(t *testing.T) *api {
	t.Helper()
	answers := map[string]string{
		"/apis": `{"groups":[{"name":"apps","versions":[{"groupVersion":"apps/v1"}]},{"name":"example.com","versions":[{"groupVersion":"example.com/v1"}]}]}`,
		"/api/v1": `{"groupVersion":"v1","resources":[{"name":"nodes","verbs":["list"]},{"name":"pods","verbs":["list"]},{"name":"pods/log","verbs":["get"]},
			{"name":"services","verbs":["list"]},{"name":"endpoints","verbs":["list"]},{"name":"bindings","verbs":["create"]}]}`,
		"/apis/apps/v1": `{"groupVersion":"apps/v1","resources":[{"name":"deployments","verbs":["list"]}]}`,
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions": `{"items":[
			{"spec":{"group":"example.com","names":{"plural":"pods"},"versions":[{"name":"v1","served":true},{"name":"v2","served":true,"storage":true}]}},
			{"spec":{"group":"example.com","names":{"plural":"old"},"versions":[{"name":"v1","served":true},{"name":"v2","storage":true}]}},
			{"spec":{"group":"example.com","names":{"plural":"hooked"},"versions":[{"name":"v1","served":true,"storage":true}],"conversion":{"strategy":"Webhook"}}}]}`,
		"/api/v1/pods":    `{"metadata":{"continue":"more"},"items":[{},{}]}`,
		"/api/v1/secrets": `{"items":[{"metadata":{"namespace":"ns","name":"s"},"data":{"a":""}}]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		answer, ok := answers[r.URL.Path]
		switch {
		case q.Get("continue") == "more" && !q.Has("resourceVersion"):
			answer = `{"items":[{}]}`
		case q.Has("limit") && (q.Get("resourceVersion") != "7" || q.Get("resourceVersionMatch") != "Exact"):
			ok = false
		}
		if !ok {
			w.WriteHeader(http.StatusInternalServerError)
			answer = `{"message":"cannot decode the object"}`
		}
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	return &api{client: server.Client(), base: server.URL}
}

func TestResources(t *testing.T) {
	got, err := served(t).resources(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"minions": "/api/v1/nodes", "pods": "/api/v1/pods", "services/specs": "/api/v1/services", "services/endpoints": "/api/v1/endpoints",
		"deployments": "/apis/apps/v1/deployments", "example.com/pods": "/apis/example.com/v2/pods", "example.com/old": "/apis/example.com/v1/old",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("where the API serves what etcd has (-want +got):\n%s", diff)
	}
}

func TestCountOfAPI(t *testing.T) {
	a := served(t)
	if n, err := a.count(t.Context(), "/api/v1/pods", 7); err != nil || n != 3 {
		t.Errorf("two pages have %d objects: %v", n, err)
	}
	if _, err := a.count(t.Context(), "/api/v1/pods", 8); err == nil || !strings.Contains(err.Error(), "cannot decode the object") {
		t.Errorf("what cannot be read gives %v", err)
	}
	if name, err := a.secret(t.Context(), 7); err != nil || name != "ns/s" {
		t.Errorf("the Secret is %q: %v", name, err)
	}
}

// TestFlags: an API server of a drill that called others, or answered them, would do harm.
func TestFlags(t *testing.T) {
	d := &drill{room: &room{dir: "/room", user: 1}, job: Job{ServiceCIDR: "10.96.0.0/16"}}
	flags, err := json.Marshal(d.apiFlags("4711"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--bind-address=127.0.0.1", "--anonymous-auth=false", "--etcd-servers=unix:///etcd.sock", "--endpoint-reconciler-type=none", "--etcd-compaction-interval=0",
		"--disable-admission-plugins=MutatingAdmissionWebhook,ValidatingAdmissionWebhook", "--service-cluster-ip-range=10.96.0.0/16"} {
		if !strings.Contains(string(flags), `"`+want+`"`) {
			t.Errorf("%s is missing", want)
		}
	}
}
