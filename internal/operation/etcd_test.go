package operation_test

import (
	"context"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	fakecluster "slipway.dev/slipway/internal/cluster/fake"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/step"
)

// reseated makes every change that an etcd knows.
type reseated struct{ Leader, Gone uint64 }

func (reseated) ID() step.ID { return "test.reseated/v1" }

func (s reseated) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	members, err := r.Cluster.EtcdMembers(ctx)
	var drift step.Drift
	for _, m := range members {
		if m.ID == s.Gone {
			drift.Want("member "+m.Name, "present", "absent")
		}
	}
	return drift, err
}

func (s reseated) Apply(ctx context.Context, w step.Writer) error {
	if _, err := w.Cluster.AddEtcdLearner(ctx, "https://192.0.2.4:2380"); err != nil {
		return err
	}
	if err := w.Cluster.PromoteEtcdMember(ctx, s.Leader); err != nil {
		return err
	}
	if err := w.Cluster.MoveEtcdLeader(ctx, s.Leader); err != nil {
		return err
	}
	return w.Cluster.RemoveEtcdMember(ctx, s.Gone)
}

func TestRun_ChangesOfEtcdAreLoggedAndCounted(t *testing.T) {
	etcd := &fakecluster.Etcd{}
	addresses := map[string]string{"cp1": "192.0.2.1", "cp2": "192.0.2.2", "cp3": "192.0.2.3"}
	etcd.Form(addresses)
	for name, address := range addresses {
		if err := etcd.Start(name, address); err != nil {
			t.Fatal(err)
		}
	}
	members, err := etcd.EtcdMembers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := reseated{Leader: members[1].ID, Gone: members[2].ID}
	w := newWorld(t, planned(t, "cp1", on(t, "a", "cp1", "", s)), interceptor.Funcs{})
	cluster := managed{WithWatch: fake.NewClientBuilder().Build(), Etcd: etcd}
	w.deps.Cluster = func(string, string) (step.ClusterReader, step.ClusterWriter) { return cluster, cluster }
	writes := 0
	w.deps.Edges = func(_ context.Context, e operation.Edge) error {
		if e.Call == "a-0" && e.Point == operation.BeforeWrite {
			writes++
		}
		return nil
	}
	out, err := w.run(t)
	if err != nil || out.Phase != v1alpha1.OperationSucceeded {
		t.Fatalf("%+v %v", out, err)
	}
	log := w.log(t, "cp1")
	for _, want := range []string{"add etcd learner https://192.0.2.4:2380", "promote etcd member ", "move the leader of etcd to member ", "remove etcd member "} {
		if !strings.Contains(log, `"`+want) {
			t.Errorf("the log does not hold %q:\n%s", want, log)
		}
	}
	if writes != 4 {
		t.Errorf("%d writes were counted, want 4", writes)
	}
}
