// Package renew plans how every certificate of a cluster's control planes is renewed and served, and those of kubelets that
// have ended. It must never read anything but its input, nor need an API server before it has made one run.
package renew

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/etcd"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/node"
	"slipway.dev/slipway/internal/step/precheck"
)

// aYear is how long kubeadm makes certificates valid when nobody says otherwise.
const aYear = 365 * 24 * time.Hour

// mostSkew is how far the clock of a host may be behind the server's, a tenth of a short life at most.
const mostSkew = 5 * time.Minute

// Plan gives the plan, or a Terminal error that names each control plane that cannot be reached. The files are renewed
// everywhere first: where all certificates have ended, no etcd finds a majority before most have new ones. Then the control
// planes serve them, one after another.
func Plan(in stages.Input) (*plan.Plan, error) {
	controlPlanes, workers := in.Spec.ControlPlane.Hosts, in.Spec.WorkerHosts()
	var found []precheck.Finding
	for _, name := range controlPlanes {
		if reason := in.Unreachable(name); reason != "" {
			found = append(found, precheck.Finding{Host: name, Rule: "reachable", Found: reason, Needed: "every control plane: bring it back, or take it out of the cluster first"})
		}
	}
	if err := precheck.Refusal(found); err != nil {
		return nil, err
	}
	valid := aYear
	if v := in.Spec.Components.Certificates.Validity; v != nil {
		valid = v.Duration
	}
	until := in.Since.Add(valid - min(mostSkew, valid/10)).UTC().Truncate(time.Second)
	b := stages.New(in, v1alpha1.VerbRenew, fmt.Sprintf("renew the certificates of cluster %s: %d control plane, %d workers", in.Name, len(controlPlanes), len(workers)),
		slices.Concat(controlPlanes, workers))
	b.Given(step.KubernetesFiles, step.KubeadmConfig, step.ControlPlaneManifests)
	b.Stage(plan.Stage{Name: "certificates", Title: "Renew the certificates", Hosts: controlPlanes, Gate: true}, []stages.Call{
		{Name: "certificates", Step: kubeadm.RenewCertificates{Until: metav1.NewTime(until)}},
		{Name: "kubelet", Step: kubeadm.RenewKubelet{}},
	})
	last := "certificates"
	for _, name := range controlPlanes {
		calls := []stages.Call{
			{Name: "etcd-before", Step: etcd.Healthy{Members: len(controlPlanes)}},
			{Name: "serve", Step: kubeadm.ServeCertificates{Port: in.Spec.Endpoint.Port, ValidSeconds: int64(valid / time.Second)}},
			{Name: "api", Step: kubeadm.ServeAPI{}},
			{Name: "etcd", Step: etcd.Healthy{Members: len(controlPlanes)}},
			{Name: "finalize-kubelet", Step: kubeadm.FinalizeKubelet{}},
			{Name: "ready", Step: node.Ready{}},
		}
		for i := range calls {
			calls[i].Name = name + "/" + calls[i].Name
		}
		stage := "serve-" + name
		b.Stage(plan.Stage{Name: stage, Title: "Serve them on " + name, Hosts: []string{name}, Needs: []string{last}, Gate: true}, calls)
		last = stage
	}
	b.Stage(plan.Stage{Name: "workers", Title: "Renew what has ended on the workers", Hosts: workers, Needs: []string{last}}, []stages.Call{
		{Name: "join-token", Step: b.JoinToken()},
		{Name: "worker-kubelet", Step: kubeadm.RenewKubelet{}},
		{Name: "finish-join", Step: kubeadm.FinishJoin{}},
		{Name: "worker-ready", Step: node.Ready{}},
	})
	return b.Plan()
}
