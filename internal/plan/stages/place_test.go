package stages_test

import (
	"strings"
	"testing"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/stages/stagestest"
)

// TestPlaceProblem: a backup in a directory of hosts is refused when none has it, with what is to be done.
func TestPlaceProblem(t *testing.T) {
	place := func(mounted bool, hosts ...string) *stages.Place {
		return &stages.Place{Location: "near", HostDirectoryLocation: v1alpha1.HostDirectoryLocation{Hosts: hosts, Path: "/root/backup", Mounted: mounted}, Away: map[string]string{}}
	}
	cases := map[string]struct {
		reason string
		place  *stages.Place
		change func(*stages.Input)
		// want is the reason, and said in the text; "" for none.
		want, said string
	}{
		"elsewhere":           {"a bucket is not asked about hosts", nil, nil, "", ""},
		"on a control plane":  {"its disk is enough", place(false, "cp1"), nil, "", ""},
		"lost":                {"what was on its disk is gone", place(false, "cp1"), func(in *stages.Input) { in.Parameters.Lost = []string{"cp1"} }, "BackupLost", "lost for good, and what is in it is lost as well"},
		"away":                {"it may come back", place(false, "cp1"), func(in *stages.Input) { in.Place.Away["cp1"] = "no route to host" }, "NotReachable", "cp1: no route to host"},
		"share, one lost":     {"the others have it mounted", place(true, "cp1", "cp2"), func(in *stages.Input) { in.Parameters.Lost = []string{"cp1"} }, "", ""},
		"share, one away":     {"the others have it mounted", place(true, "cp1", "cp2"), func(in *stages.Input) { in.Place.Away["cp1"] = "no route to host" }, "", ""},
		"share, all away":     {"nobody has it mounted", place(true, "cp1", "cp2"), func(in *stages.Input) { in.Place.Away["cp1"], in.Parameters.Lost = "no route to host", []string{"cp2"} }, "NotReachable", "cp1: no route to host"},
		"in etcd's directory": {"a restore clears it", place(false, "cp1"), func(in *stages.Input) { in.Spec.Components.Etcd.DataDir = "/root/backup/etcd" }, "PlaceCleared", "/root/backup/etcd there is cleared"},
		"in the runtime's":    {"a deletion clears it", place(false, "cp1"), func(in *stages.Input) { in.Spec.Runtime.DataDir = "/root" }, "PlaceCleared", "/root there is cleared"},
		"beside etcd's":       {"names that begin alike are two", place(false, "cp1"), func(in *stages.Input) { in.Spec.Components.Etcd.DataDir = "/root/backup-etcd" }, "", ""},
		"of another cluster":  {"its directories are not known here", place(false, "x1"), func(in *stages.Input) { in.Spec.Components.Etcd.DataDir = "/root/backup" }, "", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := stagestest.Wanted(1)
			in.Place = c.place
			if c.change != nil {
				c.change(&in)
			}
			reason, fix, text := in.PlaceProblem()
			if reason != c.want || !strings.Contains(text, c.said) || (reason == "") != (fix == "") {
				t.Errorf("%s: %q, %q, %q", c.reason, reason, fix, text)
			}
		})
	}
	if got := place(false, "cp1").LostWith(); got != ", on host cp1 alone: lost with it" {
		t.Errorf("one host: %q", got)
	}
	if got := place(true, "cp1").LostWith() + (*stages.Place)(nil).LostWith(); got != "" {
		t.Errorf("a share and a bucket: %q", got)
	}
}
