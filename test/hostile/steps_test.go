package hostile

import (
	"encoding/json"
	"reflect"
	"testing"

	"slipway.dev/slipway/internal/app"
	"slipway.dev/slipway/internal/step"
)

// stored checks what is made of one stored step: it is refused, or is data that encodes as the same step.
func stored(t *testing.T, steps step.Registry, id step.ID, parameters []byte) (understood bool) {
	t.Helper()
	s, err := steps.Decode(id, parameters)
	if err != nil {
		return false
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatalf("%s decodes %q to what cannot be stored: %v", id, parameters, err)
	}
	again, err := steps.Decode(id, b)
	if err != nil || again.ID() != s.ID() {
		t.Fatalf("%s of %q does not read back: %v", id, parameters, err)
	}
	if giver, ok := s.(step.Giver); ok {
		giver.Gives()
	}
	return true
}

// TestSteps_StoredDocuments: whatever stands in a stored plan for a step is refused, or is that step with other values.
func TestSteps_StoredDocuments(t *testing.T) {
	t.Parallel()
	steps, err := app.Steps()
	if err != nil {
		t.Fatal(err)
	}
	for n, id := range steps.IDs() {
		t.Run(string(id), func(t *testing.T) {
			t.Parallel()
			s, understood, each := newSource(2000+uint64(n)), 0, size(3000)
			s.longest = 400
			for range each {
				empty, err := steps.Decode(id, json.RawMessage("{}"))
				if err != nil {
					t.Fatal(err)
				}
				filled := reflect.New(reflect.TypeOf(empty)).Elem()
				s.fill(filled, "")
				good, err := json.Marshal(filled.Interface())
				if err != nil {
					t.Fatal(err)
				}
				document := s.near(string(good))
				if s.IntN(3) == 0 {
					document = string(good)
				}
				tried.add("stored steps", string(id)+" "+document)
				if stored(t, steps, id, []byte(document)) {
					understood++
				}
			}
			if understood < each/10 {
				t.Errorf("only %d of %d were understood: the generator is too wild", understood, each)
			}
		})
	}
}

// FuzzSteps is the same without an end.
func FuzzSteps(f *testing.F) {
	steps, err := app.Steps()
	if err != nil {
		f.Fatal(err)
	}
	for n := range steps.IDs() {
		f.Add(n, []byte(`{}`))
	}
	f.Add(0, []byte(`{"files":[{"path":"/x","mode":-1}],"output":"host/x"}`))
	f.Add(1, []byte(`null`))
	f.Fuzz(func(t *testing.T, n int, parameters []byte) {
		ids := steps.IDs()
		stored(t, steps, ids[uint(n)%uint(len(ids))], parameters)
	})
}
