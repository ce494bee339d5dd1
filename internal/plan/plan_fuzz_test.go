package plan

import (
	"bytes"
	"testing"

	"slipway.dev/slipway/internal/step"
)

// FuzzDecode: a stored plan that somebody has written over is refused, or is a plan that encodes as it was read. Nothing
// in it makes the proof that it can run panic.
func FuzzDecode(f *testing.F) {
	good := Plan{Format: Format, Hosts: []step.Target{{Name: "h1", Labels: map[string]string{"a": "b"}, Taints: []string{"k=v:NoSchedule"}}},
		Stages: []Stage{stage("a", "h1", "", "x>host/o", "y<host/o"), stage("b", "h1", "a", "z")}}
	b, err := good.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	for _, s := range []string{`{}`, `{"format":1}`, `{"format":1,"stages":[{"needs":["a"],"name":"a"}]}`, `{"format":1,"hosts":[{"taints":["=:"]}]}`, `null`, `[`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		p, err := Decode(stored)
		if err != nil {
			return
		}
		_ = p.Validate() // Only a panic is wrong.
		once, err := p.Encode()
		if err != nil {
			return // Raw parameters may be no JSON.
		}
		again, err := Decode(once)
		if err != nil {
			t.Fatalf("a plan does not read back: %v", err)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("a plan changes when it is read back: %v\n%s\n%s", err, once, twice)
		}
	})
}
