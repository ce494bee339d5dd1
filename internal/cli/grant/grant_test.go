package grant

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
)

func lend(project, name string, kind v1alpha1.GrantKind, object, summary string) *v1alpha1.Grant {
	ready := metav1.Condition{Type: v1alpha1.GrantReady, Status: metav1.ConditionTrue, Reason: "Usable"}
	if summary == "" {
		ready.Status, ready.Reason = metav1.ConditionFalse, "NotFound"
	}
	return &v1alpha1.Grant{
		ObjectMeta: metav1.ObjectMeta{Namespace: project, Name: name, CreationTimestamp: metav1.NewTime(outputtest.Now().Add(-time.Hour))},
		Spec:       v1alpha1.GrantSpec{Kind: kind, Name: object}, Status: v1alpha1.GrantStatus{Summary: summary, Conditions: []metav1.Condition{ready}},
	}
}

func some() []client.Object {
	return []client.Object{
		lend("dev", "host-w1", v1alpha1.GrantHost, "w1", "4 CPUs, 7.8Gi, debian 12, amd64, free"), lend("dev", "by-hand", v1alpha1.GrantHost, "w1", "4 CPUs, 7.8Gi, debian 12, amd64, free"),
		lend("dev", "bundles-all", v1alpha1.GrantBundle, "*", "2 bundles"), lend("dev", "host-w9", v1alpha1.GrantHost, "w9", ""),
		lend("ops", "host-w1", v1alpha1.GrantHost, "w1", "4 CPUs, 7.8Gi, debian 12, amd64, in use"),
		&v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "w1"}}, &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "w2"}},
	}
}

func TestChange(t *testing.T) {
	before := []string{"bundles-all Bundle *", "by-hand Host w1", "host-w1 Host w1", "host-w9 Host w9"}
	cases := map[string]struct {
		reason string
		args   []string
		want   output.ExitCode
		left   []string
	}{
		"add":             {"each is a grant of its own, with a name that says what it is", []string{"add", "--host", "w2,w1", "--bundle", "v1.36.3"}, output.ExitOK, []string{"bundle-v1.36.3 Bundle v1.36.3", before[0], before[1], before[2], "host-w2 Host w2", before[3]}},
		"add-all":         {"a star is everything", []string{"add", "--host", "*"}, output.ExitOK, []string{before[0], before[1], before[2], before[3], "hosts-all Host *"}},
		"add-nothing":     {"what is meant must be said", []string{"add"}, output.ExitUsage, before},
		"remove-host":     {"every grant that lends it by its name", []string{"remove", "--host", "w1"}, output.ExitOK, []string{before[0], before[3]}},
		"remove-name":     {"one grant", []string{"remove", "by-hand"}, output.ExitOK, []string{before[0], before[2], before[3]}},
		"remove-none":     {"nothing is taken back when one of the names is wrong", []string{"remove", "by-hand", "nope"}, output.ExitNotFound, before},
		"remove-not-lent": {"a host that only a star lends is not lent by its name", []string{"remove", "--bundle", "v1.36.3"}, output.ExitNotFound, before},
		"remove-nothing":  {"what is meant must be said", []string{"remove"}, output.ExitUsage, before},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{}, some()...)
			if got := b.Run(t.Context(), New(b.Deps), append(tc.args, "-p", "dev")...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d", tc.reason, got, tc.want)
			}
			outputtest.Golden(t, name, b.Everything())
			var all v1alpha1.GrantList
			if err := b.Client.List(t.Context(), &all, client.InNamespace("dev")); err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, g := range all.Items {
				left = append(left, g.Name+" "+string(g.Spec.Kind)+" "+g.Spec.Name)
			}
			if diff := cmp.Diff(tc.left, left); diff != "" {
				t.Errorf("%s: grants (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
	t.Run("another loan has the name", func(t *testing.T) {
		b := outputtest.New(t, outputtest.Hooks{}, lend("dev", "host-w2", v1alpha1.GrantHost, "w1", "x"))
		if got := b.Run(t.Context(), New(b.Deps), "add", "-p", "dev", "--host", "w2"); got != output.ExitRefused {
			t.Errorf("exit code %d\n%s", got, b.Everything())
		}
	})
}

func TestList(t *testing.T) {
	cases := map[string][]string{
		"list": {"list", "-p", "dev"}, "list-none": {"list", "-p", "empty"}, "list-name": {"list", "-p", "dev", "-o", "name"},
		"list-expand": {"list", "-p", "dev", "--expand"}, "list-expand-json": {"list", "-p", "dev", "--expand", "-o", "json"},
	}
	for name, args := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{}, some()...)
			for kind, body := range map[string]string{
				"hosts":   `{"items":[{"name":"w1","usable":true,"summary":"4 CPUs, free","cpus":4},{"name":"w9","usable":false,"reason":"NotFound","message":"there is none"}]}`,
				"bundles": `{"items":[{"name":"v1.36.3","usable":true,"summary":"Kubernetes v1.36.3, amd64"}]}`,
			} {
				b.Mux.HandleFunc("GET /slipway/v1/projects/dev/"+kind, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					if _, err := io.WriteString(w, body); err != nil {
						t.Error(err)
					}
				})
			}
			if got := b.Run(t.Context(), New(b.Deps), args...); got != output.ExitOK {
				t.Errorf("exit code %d", got)
			}
			outputtest.Golden(t, name, b.Everything())
		})
	}
}
