package etcd

import (
	"context"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/cluster/fake"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// connection is a cluster of which only etcd answers.
type connection struct {
	client.WithWatch
	step.EtcdReader
	step.EtcdWriter
}

func (connection) Ready(context.Context, string) error { return nil }

func (connection) Ask(context.Context, string, string) ([]byte, error) { return nil, nil }

func (connection) Evict(context.Context, string, string, *int64) error { return nil }

// counted counts what changes an etcd.
type counted struct {
	*fake.Etcd
	changes []string
}

func (c *counted) AddEtcdLearner(ctx context.Context, url string) (step.EtcdMember, error) {
	c.changes = append(c.changes, "add")
	return c.Etcd.AddEtcdLearner(ctx, url)
}

func (c *counted) RemoveEtcdMember(ctx context.Context, id uint64) error {
	c.changes = append(c.changes, "remove")
	return c.Etcd.RemoveEtcdMember(ctx, id)
}

func (c *counted) MoveEtcdLeader(ctx context.Context, to uint64) error {
	c.changes = append(c.changes, "move leader")
	return c.Etcd.MoveEtcdLeader(ctx, to)
}

func address(name string) string { return "192.0.2." + strings.TrimPrefix(name, "cp") }

// bench is an etcd of the named members, that all run; the first leads.
type bench struct {
	*testing.T
	*counted
}

func newBench(t *testing.T, names ...string) *bench {
	t.Helper()
	b := &bench{t, &counted{Etcd: &fake.Etcd{}}}
	initial := map[string]string{}
	for _, name := range names {
		initial[name] = address(name)
	}
	b.Form(initial)
	for _, name := range names {
		b.start(name)
	}
	return b
}

func (b *bench) start(name string) {
	b.Helper()
	if err := b.Etcd.Start(name, address(name)); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) learner(name string) {
	b.Helper()
	if _, err := b.Etcd.AddEtcdLearner(b.Context(), step.EtcdPeerURL(address(name))); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) reader(host string) step.Reader {
	return step.Reader{Target: step.Target{Name: host, Address: address(host)}, Cluster: connection{EtcdReader: b.counted}}
}

func (b *bench) writer(host string) step.Writer {
	read := b.reader(host)
	return step.Writer{Target: read.Target, Cluster: connection{EtcdReader: b.counted, EtcdWriter: b.counted}, Reading: read}
}

func (b *bench) names() string {
	b.Helper()
	members, err := b.EtcdMembers(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return names(members)
}

func TestAddMember(t *testing.T) {
	cases := map[string]struct {
		reason  string
		prepare func(*bench)
		changes []string
		err     string
	}{
		"new":             {reason: "nobody knows the host yet", changes: []string{"add"}},
		"added already":   {reason: "the answer was lost and it runs again", prepare: func(b *bench) { b.learner("cp4") }},
		"stray learner":   {reason: "etcd takes one at most", prepare: func(b *bench) { b.learner("cp9") }, changes: []string{"remove", "add"}},
		"started learner": {reason: "it has no vote, so it is never missed", prepare: func(b *bench) { b.learner("cp9"); b.start("cp9") }, changes: []string{"remove", "add"}},
		"one is dead":     {reason: "etcd itself refuses: the dead one is removed first", prepare: func(b *bench) { b.Stop("cp3") }, changes: []string{"add"}, err: step.ReasonEtcdUnhealthy},
		"no quorum":       {reason: "nobody can say who is a member", prepare: func(b *bench) { b.Stop("cp3"); b.Stop("cp2") }, err: step.ReasonEtcdUnreachable},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "cp1", "cp2", "cp3")
			if tc.prepare != nil {
				tc.prepare(b)
			}
			err := AddMember{}.Apply(t.Context(), b.writer("cp4"))
			if err != nil != (tc.err != "") || err != nil && fault.ReasonOf(err) != tc.err {
				t.Fatalf("%s: %v, want %q", tc.reason, err, tc.err)
			}
			if !slices.Equal(b.changes, tc.changes) {
				t.Errorf("%s: it did %v, want %v", tc.reason, b.changes, tc.changes)
			}
			if err != nil {
				return
			}
			if drift, err := (AddMember{}).Check(t.Context(), b.reader("cp4")); err != nil || !drift.Clean() {
				t.Errorf("%s: after Apply: %v %v", tc.reason, drift, err)
			}
			if got, want := b.names(), "cp1, cp2, cp3, https://192.0.2.4:2380"; got != want {
				t.Errorf("%s: members are %s, want %s", tc.reason, got, want)
			}
		})
	}
}

func TestPromoteMember(t *testing.T) {
	cases := map[string]struct {
		reason       string
		prepare      func(*bench)
		check, apply string
		class        fault.Class
		drift        bool
	}{
		"no member":   {reason: "somebody removed it", prepare: func(*bench) {}, check: "EtcdMemberMissing", class: fault.Terminal},
		"not started": {reason: "its kubelet starts it", prepare: func(b *bench) { b.learner("cp4") }, check: "EtcdMemberNotStarted", class: fault.Waiting},
		"stopped":     {reason: "it has joined and does not answer", prepare: func(b *bench) { b.learner("cp4"); b.start("cp4"); b.Stop("cp4") }, check: "EtcdMemberNotStarted", class: fault.Waiting},
		"behind":      {reason: "it still reads", prepare: func(b *bench) { b.learner("cp4"); b.start("cp4"); b.Lag("cp4", true) }, drift: true, apply: step.ReasonEtcdNotInSync, class: fault.Waiting},
		"in sync":     {reason: "it gets its vote", prepare: func(b *bench) { b.learner("cp4"); b.start("cp4") }, drift: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "cp1", "cp2", "cp3")
			tc.prepare(b)
			drift, err := PromoteMember{}.Check(t.Context(), b.reader("cp4"))
			if err != nil != (tc.check != "") || err != nil && (fault.ReasonOf(err) != tc.check || fault.ClassOf(err) != tc.class) || drift.Clean() == tc.drift {
				t.Fatalf("%s: %v %v", tc.reason, drift, err)
			}
			if !tc.drift {
				return
			}
			err = PromoteMember{}.Apply(t.Context(), b.writer("cp4"))
			if err != nil != (tc.apply != "") || err != nil && (fault.ReasonOf(err) != tc.apply || fault.ClassOf(err) != tc.class) {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			if drift, err := (PromoteMember{}).Check(t.Context(), b.reader("cp4")); err != nil || drift.Clean() != (tc.apply == "") {
				t.Errorf("%s: after Apply: %v %v", tc.reason, drift, err)
			}
		})
	}
}
