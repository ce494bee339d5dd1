package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/step"
)

// stage makes a stage on hosts, after others; each call reads "name", "name<need" or "name>given".
func stage(name, hosts, needs string, calls ...string) Stage {
	s := Stage{Name: name, Title: name, Hosts: strings.Fields(hosts), Needs: strings.Fields(needs)}
	for _, text := range calls {
		c := Call{Name: text, ID: "test/v1", Parameters: []byte("{}")}
		if name, need, ok := strings.Cut(text, "<"); ok {
			c.Name, c.Needs = name, []step.Output{step.Output(need)}
		} else if name, given, ok := strings.Cut(text, ">"); ok {
			c.Name, c.Gives = name, []step.Output{step.Output(given)}
		}
		s.Calls = append(s.Calls, c)
	}
	return s
}

func TestValidate(t *testing.T) {
	cases := map[string]struct {
		reason string
		stages []Stage
		// want is in the error; empty means none.
		want string
	}{
		"empty":            {"a plan without stages does nothing", nil, ""},
		"order":            {"an earlier stage may be needed", []Stage{stage("a", "h1", "", "x"), stage("b", "h1 h2", "a", "y")}, ""},
		"two-stages":       {"journals and needs go by the stage's name", []Stage{stage("a", "h1", "", "x"), stage("a", "h1", "", "y")}, "two stages are named a"},
		"two-calls":        {"journals go by the call's name", []Stage{stage("a", "h1", "", "x"), stage("b", "h1", "", "x")}, "two steps are named x"},
		"no-hosts":         {"a stage without hosts never ends", []Stage{stage("a", "", "", "x")}, "stage a is empty"},
		"no-calls":         {"a stage without calls says nothing", []Stage{stage("a", "h1", "")}, "stage a is empty"},
		"unknown-host":     {"a host must be one of the plan's", []Stage{stage("a", "h9", "", "x")}, "names host h9"},
		"unknown-stage":    {"a stage can only wait for one that exists", []Stage{stage("a", "h1", "z", "x")}, "stage a needs z"},
		"loop":             {"waiting for a later stage would never end", []Stage{stage("a", "h1", "b", "x"), stage("b", "h1", "a", "y")}, "stage a needs b"},
		"itself":           {"a stage cannot wait for itself", []Stage{stage("a", "h1", "a", "x")}, "stage a needs a"},
		"given-before":     {"an earlier call of the stage gives it", []Stage{stage("a", "h1", "", "x>host/o", "y<host/o")}, ""},
		"given-after":      {"a later call gives it too late", []Stage{stage("a", "h1", "", "y<host/o", "x>host/o")}, "step y on h1 needs host/o"},
		"given-same-host":  {"a host goes through its stages in order", []Stage{stage("a", "h1", "", "x>host/o"), stage("b", "h1", "", "y<host/o")}, ""},
		"given-other-host": {"what one host has, another has not", []Stage{stage("a", "h1", "", "x>host/o"), stage("b", "h2", "a", "y<host/o")}, "step y on h2 needs host/o"},
		"given-cluster":    {"what the cluster has, every host has", []Stage{stage("a", "h1", "", "x>cluster/o"), stage("b", "h2", "a", "y<cluster/o")}, ""},
		"given-unfinished": {"another host's stage must be finished first", []Stage{stage("a", "h1", "", "x>cluster/o"), stage("b", "h2", "", "y<cluster/o")}, "step y on h2 needs cluster/o"},
		"given-through": {"waiting for a stage is waiting for what it waits for",
			[]Stage{stage("a", "h1", "", "x>cluster/o"), stage("b", "h1", "a", "z"), stage("c", "h2", "b", "y<cluster/o")}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := &Plan{Format: Format, Hosts: []step.Target{{Name: "h1"}, {Name: "h2"}}, Stages: c.stages}
			err := p.Validate()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: %v, want %q", c.reason, err, c.want)
			}
		})
	}
}

func TestEncode(t *testing.T) {
	p := &Plan{Format: Format, Verb: "Create", Namespace: "dev", Cluster: "demo", Hosts: []step.Target{{Name: "h1"}}, Stages: []Stage{stage("a", "h1", "", "x>cluster/o")}}
	first, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(first)
	if err != nil {
		t.Fatal(err)
	}
	second, err := back.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(first), string(second)); diff != "" || Digest(first) != Digest(second) {
		t.Errorf("a plan that was read back is another one:\n%s", diff)
	}
	if _, err := Decode([]byte(`{"format": 2}`)); err == nil || !strings.Contains(err.Error(), "format 2, this version reads 1") {
		t.Errorf("a plan of another format was read: %v", err)
	}
}
