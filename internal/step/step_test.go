package step_test

import (
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/step"
)

func TestDriftWant(t *testing.T) {
	var d step.Drift
	d.Want("unit", "active", "active")
	if !d.Clean() {
		t.Errorf("what is as wanted is no drift: %v", d)
	}
	d.Want("unit", "", "active")
	want := step.Drift{{What: "unit", Want: "active"}}
	if diff := cmp.Diff(want, d); diff != "" || d.Clean() {
		t.Errorf("drift (-want +got):\n%s", diff)
	}
}

func TestDriftWantFile(t *testing.T) {
	const path, content = "/etc/app/token", "a secret that nobody may see"
	cases := map[string]struct {
		reason string
		have   func(s *fake.State) error
		file   host.File
		want   step.Drift
		fails  bool
	}{
		"missing": {reason: "there is nothing", have: func(*fake.State) error { return nil }, file: host.File{Content: []byte(content)},
			want: step.Drift{{What: path, Want: "present"}}},
		"same": {reason: "content and mode fit; zero means 0644", have: func(s *fake.State) error { return s.WriteFile(path, []byte(content), 0o644) }, file: host.File{Content: []byte(content)}},
		"other content": {reason: "it may be secret, so none of it is shown", have: func(s *fake.State) error { return s.WriteFile(path, []byte("old secret"), 0o644) }, file: host.File{Content: []byte(content)},
			want: step.Drift{{What: path, Have: "other content", Want: "the planned content"}}},
		"other mode": {reason: "a key that all can read is drift", have: func(s *fake.State) error { return s.WriteFile(path, []byte(content), 0o644) }, file: host.File{Content: []byte(content), Mode: 0o600},
			want: step.Drift{{What: path + " mode", Have: fs.FileMode(0o644).String(), Want: fs.FileMode(0o600).String()}}},
		"a directory": {reason: "nothing can be compared", have: func(s *fake.State) error { return s.Mkdir(path, 0o755) }, file: host.File{Content: []byte(content)}, fails: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			h := fake.New("w1", v1alpha1.HostFacts{})
			h.Do(func(s *fake.State) {
				if err := tc.have(s); err != nil {
					t.Fatal(err)
				}
			})
			var d step.Drift
			err := d.WantFile(t.Context(), h, path, tc.file)
			if (err != nil) != tc.fails {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			if diff := cmp.Diff(tc.want, d); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
	h := fake.New("w1", v1alpha1.HostFacts{})
	h.PowerOff()
	var d step.Drift
	if err := d.WantFile(t.Context(), h, path, host.File{}); err == nil {
		t.Error("a host that does not answer has no drift, but an error")
	}
}

func TestOutputOfCluster(t *testing.T) {
	if !step.API.OfCluster() || step.Runtime.OfCluster() {
		t.Error("the API is the cluster's, the runtime is a host's")
	}
}
