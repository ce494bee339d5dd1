package fake_test

import (
	"testing"

	"slipway.dev/slipway/internal/cluster/etcdtest"
	"slipway.dev/slipway/internal/cluster/fake"
)

func TestConformance(t *testing.T) {
	etcdtest.Run(t, func(t *testing.T) etcdtest.Env {
		addresses := map[string]string{"cp1": "192.0.2.1", "cp2": "192.0.2.2", "cp3": "192.0.2.3"}
		e := &fake.Etcd{}
		e.Form(addresses)
		for name, address := range addresses {
			if err := e.Start(name, address); err != nil {
				t.Fatal(err)
			}
		}
		return etcdtest.Env{Etcd: e, Next: "192.0.2.4", Stop: e.Stop, Start: func(name string) {
			if err := e.Start(name, "192.0.2.4"); err != nil {
				t.Fatal(err)
			}
		}}
	})
}

func TestStart_NobodyHasAddedIt(t *testing.T) {
	e := &fake.Etcd{}
	e.Form(map[string]string{"cp1": "192.0.2.1"})
	if err := e.Start("cp2", "192.0.2.2"); err == nil {
		t.Error("a stranger runs in the cluster")
	}
}
