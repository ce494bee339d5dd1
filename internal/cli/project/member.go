package project

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

const memberHelp = `WHO is the identity of a person: the name of a local account, or oidc:NAME for one from the directory. With --group it
is a group of the directory, oidc:GROUP.`

// roleHelp says what the roles are for.
const roleHelp = `role: ProjectAdministrator (makes and deletes clusters, adds read-only members), ClusterAdministrator (works inside clusters) or ReadOnly`

// roles lists the roles of members.
func roles() []v1alpha1.ProjectRole {
	return []v1alpha1.ProjectRole{v1alpha1.ProjectAdministrator, v1alpha1.ClusterAdministrator, v1alpha1.ReadOnly}
}

// roleOf reads a role as people write it: read-only is ReadOnly.
func roleOf(text string) (v1alpha1.ProjectRole, error) {
	for _, r := range roles() {
		if strings.EqualFold(strings.ReplaceAll(text, "-", ""), string(r)) {
			return r, nil
		}
	}
	return "", output.Usagef("cannot use role %q: it is one of %v", text, roles())
}

func kindOf(group bool) v1alpha1.MemberKind {
	if group {
		return v1alpha1.MemberGroup
	}
	return v1alpha1.MemberUser
}

func newAddMember(deps output.Deps) *cobra.Command {
	var role string
	var group bool
	cmd := &cobra.Command{
		Use:   "add-member PROJECT WHO --role ROLE",
		Short: "Let a person, or a group of the directory, work in a project",
		Long:  "Let a person, or a group of the directory, work in a project. A member may have several roles.\n" + memberHelp,
		Args:  output.Args(cobra.ExactArgs(2)),
	}
	cmd.Flags().StringVar(&role, "role", "", roleHelp)
	cmd.Flags().BoolVar(&group, "group", false, "WHO is a group of the directory")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if role == "" {
			return output.Usagef("cannot add a member: --role is missing")
		}
		is, err := roleOf(role)
		if err != nil {
			return err
		}
		m := v1alpha1.ProjectMember{Kind: kindOf(group), Name: args[1], Role: is}
		return change(cmd.Context(), deps, args[0], func(ctx context.Context, connection *output.Connection, p *v1alpha1.Project) (string, error) {
			if slices.Contains(p.Spec.Members, m) {
				return fmt.Sprintf("%s is %s in project %s already", m.Name, m.Role, p.Name), nil
			}
			p.Spec.Members = append(p.Spec.Members, m)
			warnUnknown(ctx, deps, connection, m)
			return fmt.Sprintf("%s is %s in project %s", m.Name, m.Role, p.Name), nil
		})
	}
	return cmd
}

// warnUnknown tells of a local name that no User has, which may be a mistake. Who may not look is not told.
func warnUnknown(ctx context.Context, deps output.Deps, connection *output.Connection, m v1alpha1.ProjectMember) {
	if m.Kind == v1alpha1.MemberGroup || strings.HasPrefix(m.Name, v1alpha1.DirectoryPrefix) {
		return
	}
	var u v1alpha1.User
	if err := connection.Client.Get(ctx, client.ObjectKey{Name: m.Name}, &u); apierrors.IsNotFound(err) {
		// A warning that cannot be printed must not stop the work.
		_, _ = fmt.Fprintf(deps.Streams.ErrOut, "there is no user %s yet; make one: slipway user add %s\n", output.Line(m.Name), output.Line(m.Name))
	}
}

func newRemoveMember(deps output.Deps) *cobra.Command {
	var role string
	var group bool
	cmd := &cobra.Command{
		Use:   "remove-member PROJECT WHO",
		Short: "Take a person or group out of a project, at once",
		Long:  "Take a person or group out of a project, at once, with --role from that role only.\n" + memberHelp,
		Args:  output.Args(cobra.ExactArgs(2)),
	}
	cmd.Flags().StringVar(&role, "role", "", "only this role (default: all that WHO has)")
	cmd.Flags().BoolVar(&group, "group", false, "WHO is a group of the directory")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var only v1alpha1.ProjectRole
		if role != "" {
			var err error
			if only, err = roleOf(role); err != nil {
				return err
			}
		}
		return change(cmd.Context(), deps, args[0], func(_ context.Context, _ *output.Connection, p *v1alpha1.Project) (string, error) {
			before := len(p.Spec.Members)
			p.Spec.Members = slices.DeleteFunc(p.Spec.Members, func(m v1alpha1.ProjectMember) bool {
				return m.Kind == kindOf(group) && m.Name == args[1] && (only == "" || m.Role == only)
			})
			if len(p.Spec.Members) == before {
				return "", output.WithCode(output.ExitNotFound, output.Refused("NotFound", "look: slipway project show "+p.Name,
					"cannot take %s out of project %s: it is no such member", args[1], p.Name))
			}
			return fmt.Sprintf("%s is taken out of project %s", args[1], p.Name), nil
		})
	}
	return cmd
}

// change does edit to a project and tells what edit says. Somebody else's change at the same time is not overwritten.
func change(ctx context.Context, deps output.Deps, name string,
	edit func(context.Context, *output.Connection, *v1alpha1.Project) (string, error),
) error {
	connection, err := deps.Connect("")
	if err != nil {
		return err
	}
	p, err := get(ctx, connection, name)
	if err != nil {
		return err
	}
	before := p.DeepCopy()
	text, err := edit(ctx, connection, p)
	if err != nil {
		return err
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if !slices.Equal(before.Spec.Members, p.Spec.Members) {
		if err := connection.Client.Patch(ctx, p, patch); err != nil {
			return fmt.Errorf("cannot change project %s: %w", name, err)
		}
	}
	_, err = fmt.Fprintln(deps.Streams.Out, output.Line(text))
	return err
}
