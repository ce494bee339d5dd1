package etcd

import (
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/internal/fault"
)

func TestRemoveMember(t *testing.T) {
	three := []string{"cp1", "cp2", "cp3"}
	cases := map[string]struct {
		reason  string
		members []string
		prepare func(*bench)
		remove  string
		at      string
		changes []string
		// fix is what a refusal must tell.
		fix  string
		left string
	}{
		"alive":           {reason: "two that are well stay", members: three, remove: "cp3", changes: []string{"remove"}, left: "cp1, cp2"},
		"dead":            {reason: "it is never asked for what it cannot do", members: three, prepare: func(b *bench) { b.Stop("cp3") }, remove: "cp3", changes: []string{"remove"}, left: "cp1, cp2"},
		"leader":          {reason: "another leads before it goes, so that nobody waits for an election", members: three, remove: "cp1", changes: []string{"move leader", "remove"}, left: "cp2, cp3"},
		"dead leader":     {reason: "the others have a new one by then", members: three, prepare: func(b *bench) { b.Stop("cp1") }, remove: "cp1", changes: []string{"remove"}, left: "cp2, cp3"},
		"another is dead": {reason: "one of two that stay cannot decide anything", members: three, prepare: func(b *bench) { b.Stop("cp2") }, remove: "cp3", fix: "bring etcd back on cp2", left: "cp1, cp2, cp3"},
		"two of five dead": {reason: "three of four that stay are a quorum", members: []string{"cp1", "cp2", "cp3", "cp4", "cp5"}, prepare: func(b *bench) { b.Stop("cp4"); b.Stop("cp5") },
			remove: "cp4", changes: []string{"remove"}, left: "cp1, cp2, cp3, cp5"},
		"fourth of five": {reason: "two of four that stay are none", members: []string{"cp1", "cp2", "cp3", "cp4", "cp5"}, prepare: func(b *bench) { b.Stop("cp4"); b.Stop("cp5") },
			remove: "cp3", fix: "bring etcd back on cp4, cp5", left: "cp1, cp2, cp3, cp4, cp5"},
		"last": {reason: "it holds the data", members: []string{"cp1"}, remove: "cp1", fix: "add another control plane first", left: "cp1"},
		"learner": {reason: "it has no vote to miss", members: three, prepare: func(b *bench) { b.learner("cp4"); b.start("cp4"); b.Stop("cp3") },
			remove: "cp4", changes: []string{"remove"}, left: "cp1, cp2, cp3"},
		"never started": {reason: "it has no name yet, only the address", members: three, prepare: func(b *bench) { b.learner("cp4") }, remove: "cp4", changes: []string{"remove"}, left: "cp1, cp2, cp3"},
		"other address": {reason: "the host moved since it joined", members: three, remove: "cp3", at: "192.0.2.200", changes: []string{"remove"}, left: "cp1, cp2"},
		"gone":          {reason: "the answer was lost and it runs again", members: three, remove: "cp4", left: "cp1, cp2, cp3"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, tc.members...)
			if tc.prepare != nil {
				tc.prepare(b)
			}
			s := RemoveMember{Name: tc.remove, Address: address(tc.remove)}
			if tc.at != "" {
				s.Address = tc.at
			}
			runs := "cp2"
			err := s.Apply(t.Context(), b.writer(runs))
			if tc.fix == "" && err != nil || tc.fix != "" && (fault.ClassOf(err) != fault.Terminal || !strings.Contains(fault.FixOf(err), tc.fix)) {
				t.Fatalf("%s: %v, fix %q, want %q", tc.reason, err, fault.FixOf(err), tc.fix)
			}
			if !slices.Equal(b.changes, tc.changes) {
				t.Errorf("%s: it did %v, want %v", tc.reason, b.changes, tc.changes)
			}
			if got := b.names(); got != tc.left {
				t.Errorf("%s: members are %s, want %s", tc.reason, got, tc.left)
			}
			if drift, err := s.Check(t.Context(), b.reader(runs)); err != nil || drift.Clean() == (tc.fix != "") {
				t.Errorf("%s: after Apply: %v %v", tc.reason, drift, err)
			}
		})
	}
}

func TestHealthy(t *testing.T) {
	cases := map[string]struct {
		reason  string
		prepare func(*bench)
		// names is what the message must name, "" when all is well.
		names string
	}{
		"well":       {reason: "three answer and follow one leader", prepare: func(*bench) {}},
		"one down":   {reason: "the quorum holds, but nothing more may fail", prepare: func(b *bench) { b.Stop("cp2") }, names: "cp2"},
		"too many":   {reason: "one is still to be removed", prepare: func(b *bench) { b.learner("cp4"); b.start("cp4"); promote(b, "cp4") }, names: "cp4"},
		"learner":    {reason: "it has no vote", prepare: func(b *bench) { b.learner("cp4"); b.start("cp4") }, names: "cp4"},
		"unstarted":  {reason: "it has only an address", prepare: func(b *bench) { b.learner("cp4") }, names: "https://192.0.2.4:2380"},
		"alarm":      {reason: "etcd takes no writes", prepare: func(b *bench) { b.Alarm("cp3", "NOSPACE") }, names: "NOSPACE"},
		"one is out": {reason: "it was removed by hand", prepare: func(b *bench) { removed(b, "cp3") }, names: "cp1, cp2"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "cp1", "cp2", "cp3")
			tc.prepare(b)
			drift, err := Healthy{Members: 3}.Check(t.Context(), b.reader("cp1"))
			if !drift.Clean() || tc.names == "" && err != nil || tc.names != "" && (fault.ClassOf(err) != fault.Waiting || !strings.Contains(err.Error(), tc.names)) {
				t.Errorf("%s: %v %v, want it to name %q", tc.reason, drift, err, tc.names)
			}
		})
	}
}

func promote(b *bench, name string) {
	b.Helper()
	if err := (PromoteMember{}).Apply(b.Context(), b.writer(name)); err != nil {
		b.Fatal(err)
	}
}

func removed(b *bench, name string) {
	b.Helper()
	if err := (RemoveMember{Name: name, Address: address(name)}).Apply(b.Context(), b.writer("cp1")); err != nil {
		b.Fatal(err)
	}
}

// TestHealthy_Passed: a run that was cut behind the gate does not wait for how etcd was in front of it.
func TestHealthy_Passed(t *testing.T) {
	cases := map[string]struct {
		reason  string
		prepare func(*bench)
		host    string
		step    Healthy
		waits   bool
	}{
		"joining":      {"the learner is the host's own: the gate was passed", func(b *bench) { b.learner("cp4") }, "cp4", Healthy{Members: 3, Before: Joining}, false},
		"other joins":  {"the learner is another's: etcd takes one at a time", func(b *bench) { b.learner("cp4") }, "cp5", Healthy{Members: 3, Before: Joining}, true},
		"left":         {"the host is out already", func(b *bench) { removed(b, "cp3") }, "cp3", Healthy{Members: 3, Before: Leaving}, false},
		"other left":   {"one that went by itself is no leave to go", func(b *bench) { removed(b, "cp3") }, "cp2", Healthy{Members: 3, Before: Leaving}, true},
		"leaving well": {"all are there", func(*bench) {}, "cp3", Healthy{Members: 3, Before: Leaving}, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "cp1", "cp2", "cp3")
			tc.prepare(b)
			drift, err := tc.step.Check(t.Context(), b.reader(tc.host))
			if waits := fault.ClassOf(err) == fault.Waiting; !drift.Clean() || waits != tc.waits || err != nil && !waits {
				t.Errorf("%s: %v %v", tc.reason, drift, err)
			}
		})
	}
}
