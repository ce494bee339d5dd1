package cluster

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
)

func shape() *v1alpha1.ClusterSpec {
	return &v1alpha1.ClusterSpec{
		Kubernetes:   v1alpha1.KubernetesSpec{Version: "v1.36.3"},
		ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{"cp1", "cp2", "cp3"}},
		WorkerPools:  []v1alpha1.WorkerPool{{Name: "general", Hosts: []string{"w1"}, Labels: map[string]string{"tier": "web"}}, {Name: "batch", Hosts: []string{"b1", "b2"}}},
		Endpoint:     v1alpha1.EndpointSpec{Provider: v1alpha1.EndpointKubeVIP, Host: "192.0.2.200", Port: 6443, CertSANs: []string{"demo.example.org"}},
	}
}

func TestScaling(t *testing.T) {
	cases := map[string]struct {
		reason  string
		scaling scaling
		// controlPlanes and pools are what comes of it, "general: w1; batch: b1 b2"; refused is part of the message.
		controlPlanes, pools, refused string
	}{
		"first pool":   {"new workers come to the first pool unless told", scaling{workers: []string{"w2"}}, "cp1 cp2 cp3", "general: w1 w2; batch: b1 b2", ""},
		"named pool":   {"a pool that does not exist is made", scaling{workers: []string{"w2"}, pool: "new"}, "cp1 cp2 cp3", "general: w1; batch: b1 b2; new: w2", ""},
		"empty pool":   {"a pool without hosts goes", scaling{remove: []string{"w1"}}, "cp1 cp2 cp3", "batch: b1 b2", ""},
		"replace":      {"a lost control plane goes and another comes", scaling{lost: []string{"cp2"}, controlPlane: []string{"cp4"}}, "cp1 cp3 cp4", "general: w1; batch: b1 b2", ""},
		"lost again":   {"one that an edit has named already may be confirmed later", scaling{lost: []string{"gone"}}, "cp1 cp2 cp3", "general: w1; batch: b1 b2", ""},
		"nothing":      {"a command without a change is a mistake", scaling{}, "", "", "give --add-worker"},
		"there":        {"a host cannot come twice", scaling{workers: []string{"b1"}}, "", "", "the cluster has it"},
		"not there":    {"a misspelt host must not pass for done", scaling{remove: []string{"w9"}}, "", "", "does not have it"},
		"from another": {"in and out at once", scaling{workers: []string{"w2"}, remove: []string{"w1"}}, "cp1 cp2 cp3", "general: w2; batch: b1 b2", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			spec := shape()
			parameters, err := tc.scaling.apply(spec)
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.refused) {
					t.Errorf("%s: %v, want %q", tc.reason, err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			var pools []string
			for _, p := range spec.WorkerPools {
				pools = append(pools, p.Name+": "+strings.Join(p.Hosts, " "))
			}
			got := []string{strings.Join(spec.ControlPlane.Hosts, " "), strings.Join(pools, "; ")}
			if diff := cmp.Diff([]string{tc.controlPlanes, tc.pools}, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.scaling.lost, parameters.Lost); diff != "" {
				t.Errorf("lost hosts are told to the operation (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTemplate: a cluster that is made from a saved one differs from it in its hosts and its address only.
func TestTemplate(t *testing.T) {
	b := outputtest.New(t, outputtest.Hooks{}, &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo"}, Spec: *shape()})
	run := func(args ...string) (string, output.ExitCode) {
		code := b.Run(t.Context(), New(b.Deps), args...)
		return b.Everything(), code
	}
	if out, code := run("save-template", "demo", "--as", "three", "--description", "three and pools"); code != output.ExitOK {
		t.Fatal(out)
	}
	var saved v1alpha1.ClusterTemplate
	if err := b.Client.Get(t.Context(), client.ObjectKey{Name: "three"}, &saved); err != nil {
		t.Fatal(err)
	}
	if saved.Spec.ControlPlane.Count != 3 || len(saved.Spec.WorkerPools) != 2 || saved.Spec.WorkerPools[1].Count != 2 || saved.Spec.Description != "three and pools" {
		t.Errorf("the template is %+v", saved.Spec)
	}
	made := []string{"create", "other", "--template", "three", "--control-plane", "x1,x2,x3", "--pool", "general=y1", "--pool", "batch=y2"}
	if out, code := run(made...); code == output.ExitOK || !strings.Contains(out, "--virtual-ip") {
		t.Errorf("a template has no address: %s", out)
	}
	if out, code := run("create", "other", "--template", "three", "--control-plane", "x1,x2,x3", "--pool", "general=y1", "--virtual-ip", "192.0.2.201"); code == output.ExitOK || !strings.Contains(out, "pool batch") {
		t.Errorf("a pool has no hosts: %s", out)
	}
	if out, code := run(append(made, "--virtual-ip", "192.0.2.201", "--no-wait")...); code != output.ExitOK {
		t.Fatal(out)
	}
	var other v1alpha1.Cluster
	if err := b.Client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "other"}, &other); err != nil {
		t.Fatal(err)
	}
	want := shape()
	want.ControlPlane.Hosts = []string{"x1", "x2", "x3"}
	want.WorkerPools[0].Hosts, want.WorkerPools[1].Hosts = []string{"y1"}, []string{"y2"}
	want.Endpoint.Host, want.Endpoint.CertSANs = "192.0.2.201", nil
	if diff := cmp.Diff(*want, other.Spec); diff != "" {
		t.Errorf("the cluster of the template (-want +got):\n%s", diff)
	}
	if out, code := run("create", "third", "--template", "none"); code == output.ExitOK {
		t.Errorf("a template that does not exist is no template: %s", out)
	}
}
