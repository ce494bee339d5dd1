package operation

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/impact"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
)

// managedBy asks what the world says at the time.
type managedBy struct{ w *world }

var errSilent = errors.New("no API server answers")

func (m managedBy) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if m.w.managed == nil {
		return errSilent
	}
	return m.w.managed.List(ctx, list, opts...)
}

func (m managedBy) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if m.w.managed == nil {
		return errSilent
	}
	return m.w.managed.Get(ctx, key, o, opts...)
}

func (m managedBy) Ready(context.Context, string) error { return errSilent }

func (m managedBy) Ask(ctx context.Context, host, path string) ([]byte, error) {
	if m.w.managed == nil {
		return nil, errSilent
	}
	return m.w.managed.Ask(ctx, host, path)
}

func (m managedBy) EtcdMembers(ctx context.Context) ([]step.EtcdMember, error) {
	return m.w.managed.EtcdMembers(ctx)
}

func (m managedBy) EtcdStatus(ctx context.Context, host string) (step.EtcdStatus, error) {
	return m.w.managed.EtcdStatus(ctx, host)
}

func (m managedBy) EtcdSnapshot(context.Context, string) (io.ReadCloser, error) {
	return nil, errSilent
}

// talking is a managed cluster of these objects; etcd is the error of its etcd.
type talking struct {
	managedBy
	client.Reader
	etcd    error
	answers map[string]string
	asked   int
}

func talk(objects ...client.Object) *talking {
	return &talking{Reader: clientfake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(objects...).Build()}
}

func (c *talking) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	return c.Reader.Get(ctx, key, o, opts...)
}

func (c *talking) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	c.asked++
	return c.Reader.List(ctx, list, opts...)
}

func (c *talking) Ask(_ context.Context, _, path string) ([]byte, error) {
	return []byte(c.answers[path]), nil
}

func (c *talking) EtcdMembers(context.Context) ([]step.EtcdMember, error) {
	return []step.EtcdMember{{Name: "c1"}}, c.etcd
}

func (c *talking) EtcdStatus(context.Context, string) (step.EtcdStatus, error) {
	return step.EtcdStatus{}, c.etcd
}

// lone is a pod that nothing makes anew.
func lone(name, node string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
}

// made gives the world a cluster of c1, w1 and w2 that was created.
func (w *world) made() {
	w.t.Helper()
	s := spec("c1", "w1", "w2")
	c := clusterOf("dev", "demo", s)
	w.create(c)
	c.Status.Applied = &s
	if err := w.client.Status().Update(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
	for _, host := range s.AllHosts() {
		w.create(claimOf(host, "dev", "demo", "made"))
	}
}

func scalesTo(s v1alpha1.ClusterSpec) v1alpha1.OperationSpec {
	return v1alpha1.OperationSpec{Verb: v1alpha1.VerbScale, Cluster: "demo", Wanted: &s}
}

// TestImpactIsSaid: a plan comes with what it does to the cluster, before anybody agrees; a cluster that does not tell is
// said to be unknown, and one that nobody disturbs is not asked.
func TestImpactIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.made()
		w.create(machine("w3", "10.9.0.23"))
		told := talk(lone("a", "w2"), lone("b", "w1"))
		w.managed = told
		w.create(operationOf("dev", "remove", scalesTo(spec("c1", "w1"))))
		w.settle()
		said := w.phase("dev", "remove", v1alpha1.OperationPlanned).Status.Impact
		if said == nil || said.LookedAt == nil {
			t.Fatalf("the plan says nothing of the cluster: %+v", said)
		}
		if diff := cmp.Diff(v1alpha1.PodNames{Count: 1, Names: []string{"shop/a"}}, said.Lost); diff != "" {
			t.Errorf("the pod that is lost (-want +got):\n%s", diff)
		}

		asked := told.asked
		w.create(operationOf("dev", "add", scalesTo(spec("c1", "w1", "w2", "w3"))))
		w.settle()
		said = w.phase("dev", "add", v1alpha1.OperationPlanned).Status.Impact
		if diff := cmp.Diff(&v1alpha1.OperationImpact{Nodes: []v1alpha1.NodeImpact{{Name: "w3", Change: v1alpha1.NodeJoins}}}, said); diff != "" || told.asked != asked {
			t.Errorf("a new worker disturbs nobody, and %d questions were asked (-want +got):\n%s", told.asked-asked, diff)
		}

		told.etcd = errors.New("etcd is gone")
		w.create(operationOf("dev", "half", scalesTo(spec("c1", "w1"))))
		w.settle()
		said = w.phase("dev", "half", v1alpha1.OperationPlanned).Status.Impact
		if said.Unknown != "etcd does not tell its members: etcd is gone" || said.Lost.Count != 1 {
			t.Errorf("etcd alone is not known: %+v", said)
		}

		w.managed = nil
		w.create(operationOf("dev", "unknown", scalesTo(spec("c1", "w1"))))
		w.settle()
		said = w.phase("dev", "unknown", v1alpha1.OperationPlanned).Status.Impact
		if said.Unknown != "the cluster does not tell its nodes: no API server answers" || said.LookedAt != nil {
			t.Errorf("nobody could ask the cluster: %+v", said)
		}

		w.create(operationOf("dev", "create", wants("fresh", spec("c1"))))
		w.settle()
		if op := w.op("dev", "create"); op.Status.Impact != nil {
			t.Errorf("a cluster that does not exist: %+v", op.Status.Impact)
		}
	})
}

// TestWarnings: what is no reason to refuse an upgrade is said before it.
func TestWarnings(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	s := spec("c1")
	to := *s.DeepCopy()
	to.Kubernetes.Version = "v1.37.1"
	told := talk()
	told.answers = map[string]string{"/metrics": `apiserver_requested_deprecated_apis{group="new.k8s.io",removed_release="1.40",resource="things",subresource="",version="v1beta1"} 1` + "\n"}
	certificates := []v1alpha1.ClusterCertificate{{Name: "c1/apiserver", ExpiresAt: metav1.NewTime(now.AddDate(0, 0, 29))}, {Name: "ca", ExpiresAt: metav1.NewTime(now.AddDate(9, 0, 0))}}
	in := &impact.Input{Plan: &plan.Plan{Verb: v1alpha1.VerbUpgrade, Cluster: "demo"}, Applied: &s, Wanted: &to}
	want := []string{quiet, "certificate c1/apiserver ends 2026-12-20T12:00:00Z: slipway cluster renew-certs demo",
		"new.k8s.io/v1beta1 things in use, which 1.40 removes: move what uses it before a later upgrade"}
	if diff := cmp.Diff(want, warnings(t.Context(), told, in, certificates, now)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	silent := managedBy{&world{}}
	want = []string{quiet, "not known whether deprecated APIs are in use: the API server of c1 does not tell: no API server answers"}
	if diff := cmp.Diff(want, warnings(t.Context(), silent, in, nil, now)); diff != "" {
		t.Errorf("an API server that does not tell (-want +got):\n%s", diff)
	}
	in.Plan.Verb = v1alpha1.VerbScale
	if got := warnings(t.Context(), told, in, certificates, now); got != nil {
		t.Errorf("other verbs have none: %q", got)
	}
}

// TestKeep: an upgrade takes a backup to where the schedules of the cluster put theirs, if that is lent to the project.
func TestKeep(t *testing.T) {
	schedule := func(name, cluster, location string, enabled bool) *v1alpha1.BackupSchedule {
		return &v1alpha1.BackupSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: name}, Spec: v1alpha1.BackupScheduleSpec{Cluster: cluster, Location: location, Enabled: &enabled}}
	}
	lent := grantOf("dev", v1alpha1.GrantBackupLocation, "nas")
	cases := map[string]struct {
		reason  string
		op      string
		verb    v1alpha1.Verb
		objects []client.Object
		want    *stages.Keep
	}{
		"scheduled":  {"where its other backups are", "demo-upgrade-1", v1alpha1.VerbUpgrade, []client.Object{lent, schedule("nightly", "demo", "nas", true)}, &stages.Keep{Name: "demo-upgrade-1", Location: "nas"}},
		"none":       {"nobody has said where", "demo-upgrade-1", v1alpha1.VerbUpgrade, []client.Object{lent}, nil},
		"disabled":   {"a schedule that is off says nothing", "demo-upgrade-1", v1alpha1.VerbUpgrade, []client.Object{lent, schedule("nightly", "demo", "nas", false)}, nil},
		"of another": {"another cluster's schedule", "demo-upgrade-1", v1alpha1.VerbUpgrade, []client.Object{lent, schedule("nightly", "other", "nas", true)}, nil},
		"not lent":   {"the loan has ended", "demo-upgrade-1", v1alpha1.VerbUpgrade, []client.Object{schedule("nightly", "demo", "nas", true)}, nil},
		"other verb": {"only upgrades do", "demo-scale-1", v1alpha1.VerbScale, []client.Object{lent, schedule("nightly", "demo", "nas", true)}, nil},
		"its name":   {"an operation whose name no backup can have", "upgrade.1", v1alpha1.VerbUpgrade, []client.Object{lent, schedule("nightly", "demo", "nas", true)}, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				for _, o := range tc.objects {
					w.create(o.DeepCopyObject().(client.Object))
				}
				op := operationOf("dev", tc.op, v1alpha1.OperationSpec{Verb: tc.verb, Cluster: "demo"})
				op.Status.Plan = &v1alpha1.PlanReference{Summary: "upgrade cluster demo"}
				grants, err := w.reconcile.grants(t.Context(), "dev")
				if err != nil {
					t.Fatal(err)
				}
				got, err := w.reconcile.keep(t.Context(), op, &stages.Input{Grants: grants})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
				}
				if err := w.reconcile.order(t.Context(), op); err != nil {
					t.Fatal(err)
				}
				b := read(w, client.ObjectKey{Namespace: "dev", Name: tc.op}, &v1alpha1.Backup{})
				if (b != nil) != (tc.want != nil) || b != nil && (b.Spec.Location != "nas" || b.Spec.Description != "before upgrade cluster demo") {
					t.Errorf("%s: the backup that was ordered is %+v", tc.reason, b)
				}
			})
		})
	}
}
