package auth

import (
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"
)

// Scope narrows what a token may be used for; RBAC still decides within it. The zero Scope narrows nothing.
type Scope struct {
	// ReadOnly lets only reads through.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Projects limits to these projects.
	Projects []string `json:"projects,omitempty"`
	// Cluster, PROJECT/NAME, limits to the way into that one managed cluster. It goes with no Projects.
	Cluster string `json:"cluster,omitempty"`
}

// ScopeOf gives the scope of what a person came in with.
func ScopeOf(who user.Info) Scope {
	return Scope{ReadOnly: extra(who, readOnlyKey) != "", Projects: who.GetExtra()[projectsKey], Cluster: extra(who, clusterKey)}
}

// Limits says that the scope narrows anything.
func (s Scope) Limits() bool { return s.ReadOnly || len(s.Projects) > 0 || s.Cluster != "" }

func (s Scope) put(extra map[string][]string) {
	if s.ReadOnly {
		extra[readOnlyKey] = []string{"true"}
	}
	if len(s.Projects) > 0 {
		extra[projectsKey] = slices.Clone(s.Projects)
	}
	if s.Cluster != "" {
		extra[clusterKey] = []string{s.Cluster}
	}
}

// Within says that s allows nothing that outer does not.
func (s Scope) Within(outer Scope) bool {
	if outer.ReadOnly && !s.ReadOnly {
		return false
	}
	if outer.Cluster != "" {
		return s.Cluster == outer.Cluster
	}
	if len(outer.Projects) == 0 {
		return true
	}
	projects := s.Projects
	if s.Cluster != "" {
		project, _, _ := strings.Cut(s.Cluster, "/")
		projects = []string{project}
	}
	if len(projects) == 0 {
		return false
	}
	return !slices.ContainsFunc(projects, func(p string) bool { return !slices.Contains(outer.Projects, p) })
}
