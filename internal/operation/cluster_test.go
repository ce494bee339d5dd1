package operation_test

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	fakecluster "slipway.dev/slipway/internal/cluster/fake"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/step"
)

// unwanted deletes a ConfigMap of the managed cluster.
type unwanted struct{ Name string }

func (unwanted) ID() step.ID { return "test.unwanted/v1" }

func (u unwanted) object() *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: u.Name}}
}

func (u unwanted) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	err := r.Cluster.Get(ctx, client.ObjectKeyFromObject(u.object()), &corev1.ConfigMap{})
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	var drift step.Drift
	if err == nil {
		drift.Want("ConfigMap "+u.Name, "present", "")
	}
	return drift, nil
}

func (u unwanted) Apply(ctx context.Context, w step.Writer) error {
	return w.Cluster.Delete(ctx, u.object())
}

type managed struct {
	client.WithWatch
	*fakecluster.Etcd
}

func (managed) Ready(context.Context, string) error { return nil }

func (managed) Ask(context.Context, string, string) ([]byte, error) { return nil, nil }

func (managed) Evict(context.Context, string, string, *int64) error { return nil }

func TestRun_ChangesInTheClusterAreLoggedAndCounted(t *testing.T) {
	u := unwanted{Name: "old"}
	cluster := managed{WithWatch: fake.NewClientBuilder().WithObjects(u.object()).Build()}
	w := newWorld(t, planned(t, "cp1", on(t, "a", "cp1", "", u)), interceptor.Funcs{})
	w.deps.Cluster = func(namespace, name string) (step.ClusterReader, step.ClusterWriter) {
		if namespace != "dev" || name != "demo" {
			t.Errorf("asked for cluster %s/%s", namespace, name)
		}
		return cluster, cluster
	}
	var edges []operation.Point
	w.deps.Edges = func(_ context.Context, e operation.Edge) error {
		if e.Call == "a-0" {
			edges = append(edges, e.Point)
		}
		return nil
	}
	out, err := w.run(t)
	if err != nil || out.Phase != v1alpha1.OperationSucceeded {
		t.Fatalf("%+v %v", out, err)
	}
	if log := w.log(t, "cp1"); !strings.Contains(log, `"delete ConfigMap kube-system/old"`) && !strings.Contains(log, `"delete v1.ConfigMap kube-system/old"`) {
		t.Errorf("log = %s", log)
	}
	want := []operation.Point{operation.BeforeRecord, operation.AfterRecord, operation.BeforeApply, operation.BeforeWrite, operation.AfterWrite}
	for i, p := range want {
		if i >= len(edges) || edges[i] != p {
			t.Fatalf("edges = %v, want %v first", edges, want)
		}
	}
}
