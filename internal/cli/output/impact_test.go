package output_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
)

// TestPrintImpact: one of everything, a cluster that could not be asked, and one that nobody disturbs.
func TestPrintImpact(t *testing.T) {
	cases := map[string]struct {
		reason string
		impact *v1alpha1.OperationImpact
	}{
		"impact-all": {"what a person must read before agreeing", &v1alpha1.OperationImpact{
			Nodes: []v1alpha1.NodeImpact{{Name: "cp1", Restarts: []string{"kube-apiserver", "etcd", "kubelet"}}, {Name: "w1", Drains: true, Pods: 3, Restarts: []string{"containerd", "kubelet"}},
				{Name: "w2", Change: v1alpha1.NodeLeaves, Drains: true, Pods: 1}, {Name: "w3", Change: v1alpha1.NodeJoins}, {Name: "w4", Change: v1alpha1.NodeStops, Reboots: true}},
			MoreNodes: 7, Everywhere: []string{"flannel", "kube-proxy"}, APIAway: true, Etcd: &v1alpha1.EtcdImpact{Members: 3, Answering: 1, Needed: 2},
			Moving: v1alpha1.PodNames{Count: 23, Names: []string{"shop/a", "shop/b"}}, Stopping: v1alpha1.PodNames{Count: 1, Names: []string{"shop/s"}},
			Lost: v1alpha1.PodNames{Count: 1, Names: []string{"shop/l\x1b[31m"}}, LocalData: v1alpha1.PodNames{Count: 1, Names: []string{"shop/d"}},
			Alone: v1alpha1.PodNames{Count: 1, Names: []string{"shop/i"}}, NoRoom: v1alpha1.PodNames{Count: 1, Names: []string{"shop/n"}},
			Budgets: []v1alpha1.BudgetImpact{{Name: "shop/web", Why: "0 disruptions allowed", Pods: 1}}, MoreBudgets: 2,
			Warnings: []string{"certificate cp1/apiserver ends soon"},
			LastTime: &v1alpha1.EarlierRun{Operation: "demo-scale-1", Took: metav1.Duration{Duration: 192 * time.Second}},
		}},
		"impact-calm": {"nothing to fear", &v1alpha1.OperationImpact{
			Nodes:  []v1alpha1.NodeImpact{{Name: "w1", Drains: true, Pods: 1}},
			Moving: v1alpha1.PodNames{Count: 1, Names: []string{"shop/a"}}, Etcd: &v1alpha1.EtcdImpact{Members: 3, Answering: 2, Needed: 2}}},
		"impact-unknown": {"unknown is said, and never looks like none", &v1alpha1.OperationImpact{
			Nodes: []v1alpha1.NodeImpact{{Name: "w1", Drains: true}}, Unknown: "the cluster does not tell its pods"}},
		"impact-none": {"a plan that nobody feels", &v1alpha1.OperationImpact{}},
		"impact-nil":  {"a cluster that does not exist yet", nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := output.PrintImpact(&out, tc.impact); err != nil {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			outputtest.Golden(t, name, out.String())
		})
	}
}
