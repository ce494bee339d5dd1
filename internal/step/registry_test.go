package step_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// write is a step with parameters, idle one without.
type write struct {
	Path string `json:"path"`
	Mode int    `json:"mode,omitempty"`
}

func (write) ID() step.ID                                            { return "test.write/v1" }
func (write) Check(context.Context, step.Reader) (step.Drift, error) { return nil, nil }
func (write) Apply(context.Context, step.Writer) error               { return nil }

type idle struct{}

func (idle) ID() step.ID                                            { return "test.idle/v1" }
func (idle) Check(context.Context, step.Reader) (step.Drift, error) { return nil, nil }
func (idle) Apply(context.Context, step.Writer) error               { return nil }

// impostor claims the ID of another step.
type impostor struct{ idle }

func TestRegistry(t *testing.T) {
	r, err := step.NewRegistry(write{}, idle{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]step.ID{"test.idle/v1", "test.write/v1"}, r.IDs()); diff != "" {
		t.Errorf("IDs (-want +got):\n%s", diff)
	}
	cases := map[string]struct {
		reason     string
		id         step.ID
		parameters string
		want       step.Step
	}{
		"parameters":    {reason: "what was stored comes back", id: "test.write/v1", parameters: `{"path":"/a","mode":384}`, want: write{Path: "/a", Mode: 384}},
		"none":          {reason: "a step without fields", id: "test.idle/v1", parameters: `{}`, want: idle{}},
		"unknown ID":    {reason: "another version planned it", id: "test.write/v2", parameters: `{}`},
		"unknown field": {reason: "leaving it out would change what was approved", id: "test.write/v1", parameters: `{"path":"/a","owner":"root"}`},
		"other type":    {reason: "a torn plan", id: "test.write/v1", parameters: `{"path":1}`},
		"no JSON":       {reason: "a torn plan", id: "test.write/v1", parameters: `{`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := r.Decode(tc.id, json.RawMessage(tc.parameters))
			if tc.want == nil {
				if fault.ClassOf(err) != fault.Terminal || fault.ReasonOf(err) != "UnknownStep" || fault.FixOf(err) == "" {
					t.Fatalf("%s: got %v, want a Terminal error UnknownStep with a fix", tc.reason, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestRegistryRefusesTwins(t *testing.T) {
	if _, err := step.NewRegistry(idle{}, impostor{}); err == nil {
		t.Error("two steps with one ID: a stored plan could not tell them apart")
	}
	var none step.Registry
	if _, err := none.Decode("test.idle/v1", json.RawMessage(`{}`)); fault.ReasonOf(err) != "UnknownStep" || len(none.IDs()) > 0 {
		t.Errorf("the zero Registry knows no step: %v", err)
	}
}
