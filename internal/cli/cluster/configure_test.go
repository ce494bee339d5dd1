package cluster

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

func TestSettingFlags(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("kind: Policy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		reason string
		flags  settingFlags
		// want changes the spec of before as the flags should; refused is part of the message.
		want    func(*v1alpha1.ClusterSpec)
		refused string
	}{
		"number": {"values are YAML", settingFlags{sets: []string{"components.logLevel=4"}}, func(s *v1alpha1.ClusterSpec) { s.Components.LogLevel = 4 }, ""},
		"zero": {"0 is a value and no default", settingFlags{sets: []string{"components.apiServer.audit.maxAge=0"}}, func(s *v1alpha1.ClusterSpec) {
			s.Components.APIServer.Audit.MaxAge = new(int32(0))
		}, ""},
		"list":  {"lists too", settingFlags{sets: []string{"endpoint.certSANs=[a.example, 10.0.0.1]"}}, func(s *v1alpha1.ClusterSpec) { s.Endpoint.CertSANs = []string{"a.example", "10.0.0.1"} }, ""},
		"range": {"what looks like a number is text where text is wanted", settingFlags{sets: []string{"network.nodePortRange=31000-32000"}}, func(s *v1alpha1.ClusterSpec) { s.Network.NodePortRange = "31000-32000" }, ""},
		"file":  {"long texts are in files", settingFlags{files: []string{"components.apiServer.audit.policy=" + policy}}, func(s *v1alpha1.ClusterSpec) { s.Components.APIServer.Audit.Policy = "kind: Policy\n" }, ""},
		"unset": {"the API puts its default there", settingFlags{unsets: []string{"endpoint.certSANs", "endpoint.nothing"}}, func(s *v1alpha1.ClusterSpec) { s.Endpoint.CertSANs = nil }, ""},
		"records": {"as in /etc/hosts", settingFlags{records: []string{"192.168.2.2 host1", "192.168.2.3 host2 two"}}, func(s *v1alpha1.ClusterSpec) {
			s.HostSetup.HostRecords = []v1alpha1.HostRecord{{Address: "192.168.2.2", Names: []string{"host1"}}, {Address: "192.168.2.3", Names: []string{"host2", "two"}}}
		}, ""},
		"mirror": {"several URLs", settingFlags{mirrors: []string{"docker.io=https://a,https://b"}}, func(s *v1alpha1.ClusterSpec) {
			s.Runtime.RegistryMirrors = []v1alpha1.RegistryMirror{{Registry: "docker.io", Endpoints: []string{"https://a", "https://b"}}}
		}, ""},
		"member":        {"a member of a list by its number", settingFlags{sets: []string{"workerPools.1.name=other"}}, func(s *v1alpha1.ClusterSpec) { s.WorkerPools[1].Name = "other" }, ""},
		"nothing":       {"what was changed by hand is put back", settingFlags{}, func(*v1alpha1.ClusterSpec) {}, ""},
		"typo":          {"a misspelt setting must not pass for done", settingFlags{sets: []string{"components.logLevl=4"}}, nil, "logLevl"},
		"no value":      {"nothing to set", settingFlags{sets: []string{"components.logLevel"}}, nil, "PATH=VALUE"},
		"below a value": {"a number holds no fields", settingFlags{sets: []string{"endpoint.port.x=4"}}, nil, "holds others"},
		"no member":     {"the list is shorter", settingFlags{sets: []string{"workerPools.7.name=x"}}, nil, "no number of a member"},
		"bad record":    {"an address without a name", settingFlags{records: []string{"192.168.2.2"}}, nil, "ADDRESS NAME"},
		"bad mirror":    {"a URL without a registry", settingFlags{mirrors: []string{"https://a"}}, nil, "REGISTRY=URL"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			spec := shape()
			err := c.flags.apply(spec)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%s: %v, want %q", c.reason, err, c.refused)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			want := shape()
			c.want(want)
			if diff := cmp.Diff(want, spec); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

// TestDrift: what differs is shown by host, and the exit code says whether anything does.
func TestDrift(t *testing.T) {
	looked := output.PlanView{
		Plan: &plan.Plan{Format: plan.Format, Verb: v1alpha1.VerbConfigure, Cluster: "demo", Hosts: []step.Target{{Name: "cp1", ControlPlane: true}, {Name: "w1"}}},
		Preview: []output.Preview{
			{Host: "cp1", Step: "cp1/manifests", State: output.PreviewClean}, {Host: "w1", Step: "worker/kernel", State: output.PreviewClean},
		},
	}
	differs := looked
	differs.Preview = []output.Preview{
		{Host: "cp1", Step: "cp1/manifests", State: output.PreviewDrift, Drift: step.Drift{{What: "/etc/kubernetes/manifests/kube-scheduler.yaml", Have: "other content", Want: "what kubeadm wrote"}}},
		{Host: "cp1", Step: "cp1/serve-settings", State: output.PreviewAfter, After: "cp1/manifests"},
		{Host: "w1", Step: "worker/kernel", State: output.PreviewDrift, Drift: step.Drift{{What: "net.ipv4.ip_forward", Have: "0", Want: "1"}}},
	}
	away := looked
	away.Preview = []output.Preview{{Host: "w1", Step: "worker/kernel", State: output.PreviewError, Error: "cannot reach host w1", Fix: "bring it back"}}
	cases := map[string]struct {
		reason string
		view   output.PlanView
		args   []string
		want   output.ExitCode
	}{
		"none":   {"nothing was changed", looked, nil, output.ExitOK},
		"some":   {"each host with what differs there, and how it is put back", differs, nil, output.ExitFailed},
		"json":   {"for programs", differs, []string{"-o", "json"}, output.ExitFailed},
		"refuse": {"a host that cannot be looked at is not one where nothing differs", away, nil, output.ExitRefused},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cluster := existing()
			cluster.Status.Applied = cluster.Spec.DeepCopy()
			b := outputtest.New(t, outputtest.Hooks{
				Create: func(object client.Object) error {
					object.SetName(object.GetGenerateName() + "x1")
					return nil
				},
				Created: func(ctx context.Context, server client.Client, object client.Object) {
					op := object.(*v1alpha1.Operation)
					if op.Spec.Verb != v1alpha1.VerbConfigure || op.Spec.Wanted == nil || op.Spec.ApprovedPlan != "" {
						t.Errorf("the operation is %+v", op.Spec)
					}
					op.Status = v1alpha1.OperationStatus{Phase: v1alpha1.OperationPlanned, Plan: &v1alpha1.PlanReference{Hash: "sha256:1", Summary: "look"}}
					if err := server.Status().Update(ctx, op); err != nil {
						t.Error(err)
					}
				},
			}, cluster)
			servePlan(t, b, "demo-configure-x1", c.view)
			if got := b.Run(t.Context(), New(b.Deps), append([]string{"drift", "demo"}, c.args...)...); got != c.want {
				t.Errorf("%s: exit code %d, want %d", c.reason, got, c.want)
			}
			outputtest.Golden(t, "drift-"+name, b.Everything())
		})
	}
}
