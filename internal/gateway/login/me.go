package login

import (
	"fmt"
	"net/http"
	"slices"

	"k8s.io/apiserver/pkg/authentication/user"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/gateway"
)

// me is who the person is, as the server sees it.
type me struct {
	Identity string   `json:"identity"`
	User     string   `json:"user,omitempty"`
	Groups   []string `json:"groups"`
	// Via is what the person came in with, and Scope what that is limited to.
	Via   string      `json:"via,omitempty"`
	Scope *auth.Scope `json:"scope,omitempty"`
	// PlatformRoles is SystemAdministrator or Auditor, for who is one.
	PlatformRoles []v1alpha1.PlatformRole `json:"platformRoles"`
	// Projects are those that name the person, or a group of the person, as a member.
	Projects []membership `json:"projects"`
}

type membership struct {
	Name        string                 `json:"name"`
	DisplayName string                 `json:"displayName,omitempty"`
	Roles       []v1alpha1.ProjectRole `json:"roles"`
}

func (h handler) me(w http.ResponseWriter, r *http.Request) error {
	who, _ := gateway.UserOf(r.Context())
	kind, id := auth.Via(who)
	answer := me{
		Identity: who.GetName(), User: auth.UserName(who), Groups: slices.Sorted(slices.Values(who.GetGroups())),
		Via: kind, PlatformRoles: []v1alpha1.PlatformRole{}, Projects: []membership{},
	}
	if id != "" {
		answer.Via += ":" + id
	}
	if scope := auth.ScopeOf(who); scope.Limits() {
		answer.Scope = &scope
	}
	if slices.Contains(answer.Groups, access.SystemAdministrators) || slices.Contains(answer.Groups, user.SystemPrivilegedGroup) {
		answer.PlatformRoles = append(answer.PlatformRoles, v1alpha1.SystemAdministrator)
	}
	if slices.Contains(answer.Groups, access.Auditors) {
		answer.PlatformRoles = append(answer.PlatformRoles, v1alpha1.Auditor)
	}
	var projects v1alpha1.ProjectList
	if err := h.Client.List(r.Context(), &projects); err != nil {
		return fmt.Errorf("cannot list projects: %w", err)
	}
	for _, p := range projects.Items {
		if roles := rolesIn(&p, who); len(roles) > 0 {
			answer.Projects = append(answer.Projects, membership{p.Name, p.Spec.DisplayName, roles})
		}
	}
	return gateway.WriteJSON(w, answer)
}

// rolesIn gives the roles that a project gives a person, each once, in the order of the list.
func rolesIn(p *v1alpha1.Project, who user.Info) []v1alpha1.ProjectRole {
	var roles []v1alpha1.ProjectRole
	for _, m := range p.Spec.Members {
		is := m.Name == who.GetName()
		if m.Kind == v1alpha1.MemberGroup {
			is = slices.Contains(who.GetGroups(), m.Name)
		}
		if is && !slices.Contains(roles, m.Role) {
			roles = append(roles, m.Role)
		}
	}
	return roles
}

func (h handler) listSessions(w http.ResponseWriter, r *http.Request) error {
	who, _ := gateway.UserOf(r.Context())
	sessions, err := h.Sessions.List(r.Context(), who)
	if err != nil {
		return err
	}
	return gateway.WriteJSON(w, items[auth.Session]{sessions})
}

func (h handler) endSession(w http.ResponseWriter, r *http.Request) error {
	who, _ := gateway.UserOf(r.Context())
	if err := h.Sessions.End(r.Context(), who, r.PathValue("name")); err != nil {
		return err
	}
	return nothing(w)
}

// items is a list in an answer.
type items[T any] struct {
	Items []T `json:"items"`
}

func (h handler) listTokens(w http.ResponseWriter, r *http.Request) error {
	who, _ := gateway.UserOf(r.Context())
	tokens, err := h.Tokens.List(r.Context(), who)
	if err != nil {
		return err
	}
	return gateway.WriteJSON(w, items[auth.Token]{tokens})
}

// createToken answers with a new token; it is the only time that anyone sees it.
func (h handler) createToken(w http.ResponseWriter, r *http.Request) error {
	var asked struct {
		Name           string
		Scope          auth.Scope
		ExpiresInHours float64
	}
	if err := read(w, r, &asked); err != nil {
		return err
	}
	who, _ := gateway.UserOf(r.Context())
	token, err := h.Tokens.Mint(r.Context(), who, auth.TokenRequest{
		Name: asked.Name, Scope: asked.Scope, Life: hours(asked.ExpiresInHours), From: gateway.ClientIP(r),
	})
	if err != nil {
		return err
	}
	gateway.Note(r.Context(), "token", token.ID)
	return gateway.WriteJSON(w, token)
}

func (h handler) revokeToken(w http.ResponseWriter, r *http.Request) error {
	who, _ := gateway.UserOf(r.Context())
	if err := h.Tokens.Revoke(r.Context(), who, r.PathValue("name")); err != nil {
		return err
	}
	return nothing(w)
}
