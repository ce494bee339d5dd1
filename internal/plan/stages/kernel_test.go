package stages

import "testing"

func TestOlderKernel(t *testing.T) {
	cases := map[string]struct {
		reason, have, least string
		want                bool
	}{
		"same":    {"the oldest is old enough", "4.19", "4.19", false},
		"numbers": {"numbers are compared, not text", "4.9.1", "4.19", true},
		"suffix":  {"what a distribution adds does not count", "4.19.0-27-amd64", "4.19", false},
		"patch":   {"a build number counts where the rule names one", "3.10.0-514.el7.x86_64", "3.10.0-957", true},
		"newer":   {"a newer build is fine", "3.10.0-1160.el7.x86_64", "3.10.0-957", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := olderKernel(c.have, c.least); got != c.want {
				t.Errorf("%s: %t, want %t", c.reason, got, c.want)
			}
		})
	}
}
