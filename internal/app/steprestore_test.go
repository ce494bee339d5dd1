package app

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/backup"
	"slipway.dev/slipway/internal/step/restore"
)

// shelf is step.BackupWriter in memory: file by name of the Backup.
type shelf map[string]string

func (s shelf) Kept(_ context.Context, ref step.BackupRef) (bool, error) {
	return s[ref.Name] != "", nil
}

func (s shelf) Prove(_ context.Context, ref step.BackupRef) error {
	if s[ref.Name] == "" {
		return errors.New("there is no such backup")
	}
	return nil
}

func (s shelf) Take(_ context.Context, ref step.BackupRef, _ string, snapshot io.Reader) error {
	content, err := io.ReadAll(snapshot)
	s[ref.Name] = string(content)
	return err
}

func (s shelf) Snapshot(ctx context.Context, ref step.BackupRef) (io.ReadCloser, int64, error) {
	return io.NopCloser(strings.NewReader(s[ref.Name])), int64(len(s[ref.Name])), s.Prove(ctx, ref)
}

func (s shelf) Drilled(_ context.Context, _ step.BackupRef, drill string) (bool, error) {
	return s["drill "+drill] != "", nil
}

func (s shelf) Drill(ctx context.Context, ref step.BackupRef, drill string, _ step.DrillPrograms) error {
	s["drill "+drill] = "proven"
	return s.Prove(ctx, ref)
}

const (
	manifestDir = "/etc/kubernetes/manifests/"
	asideDir    = restore.WorkDir + "/manifests/"
)

// controlPlane gives the host a kubelet and the manifests of a control plane, in place or aside.
func controlPlane(dir string, runs bool) func(*bench) {
	return func(b *bench) {
		b.unit("kubelet.service", "/var/lib/kubelet/config.yaml", !runs)
		for _, pod := range []string{restore.Etcd, restore.APIServer, restore.ControllerManager, restore.Scheduler} {
			b.write(dir+pod+".yaml", pod+"\n")
		}
		etcd := netip.MustParseAddrPort("10.9.0.21:2380")
		if runs {
			// The kubelet ends what has no manifest any more.
			b.host.Do(func(s *fakehost.State) {
				s.Listening[etcd] = true
				s.UnitEffects["kubelet.service"] = func(s *fakehost.State, _ string) host.Result {
					delete(s.Listening, etcd)
					return host.Result{}
				}
			})
		}
		b.host.Handle("/usr/local/bin/crictl", func(s *fakehost.State, c fakehost.Call) host.Result {
			switch {
			case c.Argv[1] == "stop":
				delete(s.Listening, etcd)
			case s.Listening[etcd] && strings.HasSuffix(c.Argv[len(c.Argv)-1], "="+restore.Etcd+"-w1"):
				return host.Result{Stdout: []byte("c1\n")}
			}
			return host.Result{}
		})
	}
}

// withSnapshot adds a backup, the old data and a program that makes new data of a snapshot.
func withSnapshot(old bool) func(*bench) {
	return func(b *bench) {
		controlPlane(asideDir, false)(b)
		b.backups["demo-manual-x"] = "objects"
		if old {
			b.write("/var/lib/etcd/member/snap/db", "old objects")
		}
		b.host.Handle(restore.Etcdutl, func(s *fakehost.State, c fakehost.Call) host.Result {
			content, err := s.ReadFile(c.Argv[3])
			if err != nil {
				return fakehost.Fail(1, err.Error())
			}
			dir, ok := strings.CutPrefix(c.Argv[4], "--data-dir=")
			if !ok || s.Lookup(dir) != nil {
				return fakehost.Fail(1, "data-dir not empty or missing")
			}
			return done(s.WriteFile(dir+"/member/snap/db", content, 0o600))
		})
	}
}

func restoreCases() map[string]stepCase {
	ref := step.BackupRef{Project: "dev", Name: "demo-manual-x"}
	stop := restore.Stop{Restore: "op-1", DataDir: "/var/lib/etcd", Port: 6443}
	data := restore.Data{Backup: ref, Restore: "op-1", DataDir: "/var/lib/etcd", Members: []string{"w1=https://10.9.0.21:2380"}, Port: 6443}
	inPlace := []string{manifestDir + "etcd.yaml", manifestDir + "kube-apiserver.yaml", manifestDir + "kube-controller-manager.yaml", manifestDir + "kube-scheduler.yaml"}
	registered := func(b *bench) {
		for _, name := range []string{"w1", "old"} {
			b.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "1"}})
		}
	}
	return map[string]stepCase{
		"take a backup": {reason: "from the member on this very host", step: backup.Take{Backup: ref}, drift: []string{"backup demo-manual-x"}, prepare: func(b *bench) {
			b.cluster.Form(map[string]string{"w1": "10.9.0.21"})
			b.start("w1", "10.9.0.21")
		}},
		"drill a backup": {reason: "once a drill", step: backup.Drill{Backup: ref, Drill: "op-1"}, drift: []string{"backup demo-manual-x"},
			prepare: func(b *bench) { b.backups[ref.Name] = "objects" }},
		"prove a backup": {reason: "it is read before anything stops", step: restore.Prove{Backup: ref}, prepare: func(b *bench) { b.backups[ref.Name] = "objects" }},
		"stop the control plane": {reason: "it stays stopped over a boot", step: stop, prepare: controlPlane(manifestDir, true), drift: inPlace,
			golden: []string{asideDir + "etcd.yaml", asideDir + "kube-scheduler.yaml"}},
		"stop what has restored data": {reason: "a restore that goes on stops nothing again", step: stop, prepare: func(b *bench) {
			controlPlane(manifestDir, true)(b)
			b.write("/var/lib/etcd/member/slipway-restore", "op-1")
		}},
		"data over old data": {reason: "the old data is kept until all is well", step: data, prepare: withSnapshot(true), drift: []string{"/var/lib/etcd"},
			golden: []string{"/var/lib/etcd/member/snap/db", "/var/lib/etcd/member/slipway-restore", "/var/lib/etcd/.slipway-before/snap/db"}},
		"data on an empty disk": {reason: "the data was destroyed", step: data, prepare: withSnapshot(false), drift: []string{"/var/lib/etcd"}},
		"data of an earlier restore": {reason: "each restore puts its own data there", step: data, drift: []string{"/var/lib/etcd"}, prepare: func(b *bench) {
			withSnapshot(true)(b)
			b.write("/var/lib/etcd/member/slipway-restore", "op-0")
		}, golden: []string{"/var/lib/etcd/member/slipway-restore"}},
		"start the API": {reason: "the controllers wait for it", step: restore.Start{Pods: []string{restore.Etcd, restore.APIServer}}, prepare: controlPlane(asideDir, false),
			drift: inPlace[:2], golden: []string{manifestDir + "etcd.yaml", asideDir + "kube-scheduler.yaml"}},
		"match nodes":     {reason: "a node of the snapshot whose host has left", step: restore.MatchNodes{Hosts: []string{"w1"}}, prepare: registered, drift: []string{"node old"}},
		"restart kubelet": {reason: "once a restore", step: restore.RestartKubelet{Restore: "op-1"}, prepare: controlPlane(manifestDir, false), drift: []string{"kubelet.service"}},
		"finish a restore": {reason: "what was brought holds every Secret", step: restore.Finish{DataDir: "/var/lib/etcd"}, drift: []string{restore.WorkDir, "/var/lib/etcd/.slipway-before"},
			prepare: func(b *bench) {
				b.write(restore.Etcdutl, "etcdutl")
				b.write("/var/lib/etcd/.slipway-before/snap/db", "old objects")
			}},
	}
}
