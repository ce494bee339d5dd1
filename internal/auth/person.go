package auth

import (
	"context"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/audit"
)

// The keys of the extra values of a person: what a request came in with, and what that may be used for.
const (
	// ViaKey says with what the person came in: admin-token, session:ID, token:ID or service-account.
	ViaKey = audit.ViaKey
	// UserKey names the person's User object, which is not the identity for people from the directory.
	UserKey = "slipway.dev/user"

	readOnlyKey   = "slipway.dev/read-only"
	projectsKey   = "slipway.dev/projects"
	clusterKey    = "slipway.dev/cluster"
	mustChangeKey = "slipway.dev/must-change-password"
	adminMarkKey  = "slipway.dev/admin-token"
)

const (
	viaAdminToken     = "admin-token"
	viaSession        = "session:"
	viaToken          = "token:"
	viaServiceAccount = "service-account"
)

// Via gives what a person came in with: a kind (admin-token, session, token, service-account) and the ID of the
// session or token, if it is one.
func Via(who user.Info) (kind, id string) {
	kind, id, _ = strings.Cut(extra(who, ViaKey), ":")
	return kind, id
}

// UserName gives the name of the User object behind a person, and "" when there is none, such as for a service account.
func UserName(who user.Info) string { return extra(who, UserKey) }

// MustChange says that the person may do nothing but change the password.
func MustChange(who user.Info) bool { return extra(who, mustChangeKey) != "" }

// DirectoryGroups gives the person's groups in the directory, without prefix.
func DirectoryGroups(who user.Info) []string {
	var groups []string
	for _, g := range who.GetGroups() {
		if name, ok := strings.CutPrefix(g, v1alpha1.DirectoryPrefix); ok {
			groups = append(groups, name)
		}
	}
	return groups
}

func extra(who user.Info, key string) string {
	if values := who.GetExtra()[key]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// people turns records into persons, reading live who they are now.
type people struct {
	client client.Client
	// adminMark is that of the admin token; empty lets none of its tokens in.
	adminMark string
}

// person gives who a stored record stands for, and nil when nobody: the User is gone, was made anew, or is disabled.
func (p people) person(ctx context.Context, r *record, via string) (*user.DefaultInfo, error) {
	if r.Server != "" {
		if subtle.ConstantTimeCompare([]byte(r.Server), []byte(p.adminMark)) != 1 {
			return nil, nil // Of an admin token that was replaced since.
		}
		return info(v1alpha1.AdminUser, "", v1alpha1.AdminUser, []string{access.SystemAdministrators}, via, r.Scope), nil
	}
	var u v1alpha1.User
	if err := p.client.Get(ctx, client.ObjectKey{Name: r.User}, &u); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("cannot read user %s: %w", r.User, err)
	}
	if u.UID != r.UID || u.Spec.Disabled || u.DeletionTimestamp != nil || !usableIdentity(&u) {
		return nil, nil
	}
	groups, known, err := p.groups(ctx, &u, r.Groups)
	if err != nil || !known {
		return nil, err
	}
	return info(u.Identity(), string(u.UID), u.Name, groups, via, r.Scope), nil
}

// groups gives the groups of a person, and false when the person is from a directory that is not asked any more.
func (p people) groups(ctx context.Context, u *v1alpha1.User, directory []string) ([]string, bool, error) {
	var groups []string
	switch u.Spec.PlatformRole {
	case v1alpha1.SystemAdministrator:
		groups = append(groups, access.SystemAdministrators)
	case v1alpha1.Auditor:
		groups = append(groups, access.Auditors)
	}
	if u.Spec.Directory == nil {
		return groups, true, nil
	}
	login, err := LoginSetting(ctx, p.client)
	if err != nil {
		return nil, false, err
	}
	if login.OIDC == nil || login.OIDC.Issuer != u.Spec.Directory.Issuer {
		return nil, false, nil
	}
	for _, g := range directory {
		groups = append(groups, v1alpha1.DirectoryPrefix+g)
		if slices.Contains(login.OIDC.SystemAdministratorGroups, g) {
			groups = append(groups, access.SystemAdministrators)
		}
		if slices.Contains(login.OIDC.AuditorGroups, g) {
			groups = append(groups, access.Auditors)
		}
	}
	return groups, true, nil
}

// usableIdentity refuses names that belong to the platform, should one ever get past the rules of the kind.
func usableIdentity(u *v1alpha1.User) bool {
	name := u.Identity()
	if u.Spec.Directory == nil {
		return name != "" && !strings.Contains(name, ":")
	}
	return u.Spec.Directory.Username != ""
}

func info(identity, uid, userName string, groups []string, via string, scope Scope) *user.DefaultInfo {
	who := &user.DefaultInfo{Name: identity, UID: uid, Extra: map[string][]string{ViaKey: {via}, UserKey: {userName}}}
	who.Groups = append(slices.Clone(groups), user.AllAuthenticated)
	slices.Sort(who.Groups)
	who.Groups = slices.Compact(who.Groups)
	scope.put(who.Extra)
	return who
}
