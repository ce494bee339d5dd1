package step

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"slipway.dev/slipway/internal/fault"
)

// Registry turns stored steps back into steps. The zero Registry knows none.
type Registry struct {
	types map[ID]reflect.Type
}

// NewRegistry knows the types of the given steps, whose fields do not matter.
// It fails when two of them have the same ID.
func NewRegistry(prototypes ...Step) (Registry, error) {
	r := Registry{types: make(map[ID]reflect.Type, len(prototypes))}
	for _, p := range prototypes {
		if _, taken := r.types[p.ID()]; taken {
			return Registry{}, fmt.Errorf("cannot register step %s: the ID is taken", p.ID())
		}
		r.types[p.ID()] = reflect.TypeOf(p)
	}
	return r, nil
}

// IDs lists every known ID in alphabetical order.
func (r Registry) IDs() []ID {
	ids := make([]ID, 0, len(r.types))
	for id := range r.types {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Decode gives the stored step. An unknown ID or field is a Terminal error: such a plan is blocked, never skipped.
func (r Registry) Decode(id ID, parameters json.RawMessage) (Step, error) {
	t, known := r.types[id]
	if !known {
		return nil, fault.NewTerminal("UnknownStep", "run it with the Slipway version that planned it, or abort it and plan again",
			fmt.Errorf("cannot decode step %s: this version does not know it", id))
	}
	v := reflect.New(t)
	dec := json.NewDecoder(bytes.NewReader(parameters))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v.Interface()); err != nil {
		return nil, fault.NewTerminal("UnknownStep", "run it with the Slipway version that planned it, or abort it and plan again",
			fmt.Errorf("cannot decode step %s: %w", id, err))
	}
	return v.Elem().Interface().(Step), nil
}
