package system

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/step"
)

func TestWithoutSwap(t *testing.T) {
	cases := map[string]struct{ reason, have, want string }{
		"empty":     {reason: "a container has none"},
		"no swap":   {reason: "nothing is touched", have: "UUID=1 / ext4 errors=remount-ro 0 1\n", want: "UUID=1 / ext4 errors=remount-ro 0 1\n"},
		"partition": {reason: "the line stays readable", have: "/dev/sda1 / ext4 defaults 0 1\nUUID=2 none swap sw 0 0\n", want: "/dev/sda1 / ext4 defaults 0 1\n# turned off by Slipway: UUID=2 none swap sw 0 0\n"},
		"file":      {reason: "tabs, and no line end", have: "/swap.img\tnone\tswap\tsw\t0\t0", want: "# turned off by Slipway: /swap.img\tnone\tswap\tsw\t0\t0"},
		"comment":   {reason: "what is off stays as it is", have: "# UUID=2 none swap sw 0 0\n#UUID=2 none swap sw 0 0\n", want: "# UUID=2 none swap sw 0 0\n#UUID=2 none swap sw 0 0\n"},
		"lookalike": {reason: "only the type decides", have: "/dev/swap /swap ext4 swap 0 0\nswap\n", want: "/dev/swap /swap ext4 swap 0 0\nswap\n"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := string(withoutSwap([]byte(tc.have)))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if again := string(withoutSwap([]byte(got))); again != got {
				t.Errorf("a second time changes more: %q", again)
			}
		})
	}
}

func TestNoTimeService(t *testing.T) {
	r := step.Reader{Reader: fake.New("w1", v1alpha1.HostFacts{}), Target: step.Target{Name: "w1"}}
	_, err := TimeServers{Servers: []string{"ntp.example"}}.Check(t.Context(), r)
	if fault.ClassOf(err) != fault.Terminal || fault.FixOf(err) == "" {
		t.Errorf("got %v, want a Terminal error that says what to install", err)
	}
}
