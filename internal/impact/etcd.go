package impact

import (
	"slices"

	"slipway.dev/slipway/api/v1alpha1"
)

// majority follows who votes in etcd and who serves the API, and remembers the worst moment.
type majority struct {
	voters []string
	// down are control planes whose etcd, or API server, does not answer until something starts it again.
	etcdDown, apiDown []string
	worst             *v1alpha1.EtcdImpact
	apiAway           bool
}

func newMajority(in Input) majority {
	m := majority{voters: slices.Clone(in.Applied.ControlPlane.Hosts)}
	if in.Seen != nil {
		m.etcdDown = slices.Clone(in.Seen.Silent)
		m.apiDown = slices.Clone(in.Seen.Silent)
	}
	return m
}

// join gives hosts a vote, one after another.
func (m *majority) join(names []string) {
	for _, name := range names {
		m.look(nil, nil)
		m.voters = append(m.voters, name)
		m.look(nil, nil)
	}
}

func (m *majority) leave(names []string) {
	m.look(nil, nil)
	m.voters = slices.DeleteFunc(m.voters, func(v string) bool { return slices.Contains(names, v) })
	m.look(nil, nil)
}

// feel notes what is away on some hosts at the same time.
func (m *majority) feel(e Effect, names []string) {
	here := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(m.voters, name) })
	if len(here) == 0 {
		return
	}
	all := e.Kind == Reboots || e.Kind == Leaves
	etcd, api := all || slices.Contains(e.Components, Etcd), all || slices.Contains(e.Components, APIServer)
	if !etcd && !api {
		return
	}
	var etcdAway, apiAway []string
	if etcd {
		etcdAway = here
	}
	if api {
		apiAway = here
	}
	switch e.Kind {
	case Stops, Leaves:
		m.etcdDown, m.apiDown = append(m.etcdDown, etcdAway...), append(m.apiDown, apiAway...)
		m.look(etcdAway, apiAway)
	case StartsAgain:
		m.etcdDown, m.apiDown = without(m.etcdDown, etcdAway), without(m.apiDown, apiAway)
	default:
		m.look(etcdAway, apiAway)
	}
}

// look counts who answers while some are away for a moment. It is called only where etcd or the API is touched.
func (m *majority) look(etcdAway, apiAway []string) {
	if len(m.voters) == 0 {
		return
	}
	touched := etcdAway != nil || apiAway == nil
	now := &v1alpha1.EtcdImpact{Members: int32(len(m.voters)), Needed: int32(len(m.voters)/2 + 1), Answering: int32(len(left(m.voters, m.etcdDown, etcdAway)))}
	if touched && (m.worst == nil || now.Answering-now.Needed < m.worst.Answering-m.worst.Needed) {
		m.worst = now
	}
	if now.Answering < now.Needed || len(left(m.voters, m.apiDown, apiAway)) == 0 {
		m.apiAway = true
	}
}

// left gives all that are in none of the others.
func left(all []string, gone ...[]string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(slices.Concat(gone...), name) })
}

func without(list, gone []string) []string { return left(list, gone) }
