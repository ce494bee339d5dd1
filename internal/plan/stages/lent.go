package stages

import (
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/api/v1alpha1"
)

// Lends says whether a Grant lends the named object to the project.
func (in Input) Lends(kind v1alpha1.GrantKind, name string) bool {
	return slices.ContainsFunc(in.Grants, func(g v1alpha1.GrantSpec) bool { return g.Lends(kind, name) })
}

// lent gives the input without hosts that are not lent to the project: no rule can tell of them what it cannot see.
func (in Input) lent() Input {
	in.Hosts = maps.Clone(in.Hosts)
	maps.DeleteFunc(in.Hosts, func(name string, _ v1alpha1.Host) bool { return !in.Lends(v1alpha1.GrantHost, name) })
	return in
}

// notLent says the same of what does not exist and of what belongs to others.
func (c *checker) notLent(host string, kind v1alpha1.GrantKind, name string) {
	c.add(host, "granted", "not lent to project "+c.in.Namespace+", or no "+strings.ToLower(string(kind))+" of that name",
		"a Grant of "+string(kind)+" "+name+" in project "+c.in.Namespace)
}
