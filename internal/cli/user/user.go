// Package user owns the command `slipway user`: local accounts, their passwords and platform roles. It must never keep
// a password, take one from the command line or print one.
package user

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// New gives the command `user` with its sub-commands.
func New(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "user",
		Aliases: []string{"users"},
		Short:   "Add people, change their roles, disable and delete them",
	}
	return output.Noun(cmd, newList(deps), newAdd(deps), newSetPassword(deps), newSetRole(deps),
		newDisable(deps), newEnable(deps), newDelete(deps))
}

func get(ctx context.Context, connection *output.Connection, name string) (*v1alpha1.User, error) {
	var u v1alpha1.User
	if err := connection.Client.Get(ctx, client.ObjectKey{Name: name}, &u); err != nil {
		return nil, fmt.Errorf("cannot find user %s: %w", name, err)
	}
	return &u, nil
}

func newList(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the users: local accounts, and people from the directory who have logged in",
		Args:    output.Args(cobra.NoArgs),
	}
	format := output.FormatFlag(cmd, output.FormatWide, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		connection, err := deps.Connect("")
		if err != nil {
			return err
		}
		var list v1alpha1.UserList
		if err := connection.Client.List(cmd.Context(), &list); err != nil {
			return fmt.Errorf("cannot list users: %w", err)
		}
		if format.Machine() {
			return output.PrintList(deps.Streams.Out, *format, &list, connection.Client.Scheme())
		}
		heading := []string{"NAME", "IDENTITY", "DISPLAY NAME", "ROLE", "LOGIN", "PROJECTS"}
		wide := *format == output.FormatWide
		if wide {
			heading = append(heading, "EMAIL")
		}
		rows := [][]string{append(heading, "AGE")}
		for i := range list.Items {
			u := &list.Items[i]
			row := []string{u.Name, u.Identity(), u.Spec.DisplayName, string(u.Spec.PlatformRole), login(u), strings.Join(u.Status.Projects, ",")}
			if wide {
				row = append(row, u.Spec.Email)
			}
			rows = append(rows, append(row, output.Age(deps.Clock(), u.CreationTimestamp)))
		}
		return output.Table(deps.Streams.Out, "", rows...)
	}
	return cmd
}

// login says whether the person can log in, or why not.
func login(u *v1alpha1.User) string {
	c := meta.FindStatusCondition(u.Status.Conditions, v1alpha1.UserReady)
	if c == nil {
		return "Unknown"
	}
	return c.Reason
}

// roleOf reads a platform role as people write it; none is an ordinary user.
func roleOf(text string) (v1alpha1.PlatformRole, error) {
	plain := strings.ReplaceAll(text, "-", "")
	for _, r := range []v1alpha1.PlatformRole{v1alpha1.SystemAdministrator, v1alpha1.Auditor} {
		if strings.EqualFold(plain, string(r)) {
			return r, nil
		}
	}
	if strings.EqualFold(text, "none") {
		return "", nil
	}
	return "", output.Usagef("cannot use role %q: it is one of %s, %s and none", text, v1alpha1.SystemAdministrator, v1alpha1.Auditor)
}

func newSetRole(deps output.Deps) *cobra.Command {
	return &cobra.Command{
		Use:   "set-role NAME ROLE",
		Short: "Give a person a role in the whole platform: SystemAdministrator, Auditor or none",
		Args:  output.Args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			role, err := roleOf(args[1])
			if err != nil {
				return err
			}
			text := "user " + args[0] + " is " + string(role)
			if role == "" {
				text = "user " + args[0] + " has no role in the platform"
			}
			return change(cmd.Context(), deps, args[0], text, func(s *v1alpha1.UserSpec) { s.PlatformRole = role })
		},
	}
}

func newDisable(deps output.Deps) *cobra.Command {
	return &cobra.Command{
		Use:   "disable NAME",
		Short: "Let a person in no more; every session and token of theirs ends at once",
		Args:  output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return change(cmd.Context(), deps, args[0], "user "+args[0]+" is disabled", func(s *v1alpha1.UserSpec) { s.Disabled = true })
		},
	}
}

func newEnable(deps output.Deps) *cobra.Command {
	return &cobra.Command{
		Use:   "enable NAME",
		Short: "Let a disabled person log in again",
		Args:  output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return change(cmd.Context(), deps, args[0], "user "+args[0]+" is enabled", func(s *v1alpha1.UserSpec) { s.Disabled = false })
		},
	}
}

// change does edit to a user and tells text.
func change(ctx context.Context, deps output.Deps, name, text string, edit func(*v1alpha1.UserSpec)) error {
	connection, err := deps.Connect("")
	if err != nil {
		return err
	}
	u, err := get(ctx, connection, name)
	if err != nil {
		return err
	}
	before := u.DeepCopy()
	edit(&u.Spec)
	if err := connection.Client.Patch(ctx, u, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("cannot change user %s: %w", name, err)
	}
	_, err = fmt.Fprintln(deps.Streams.Out, output.Line(text))
	return err
}

func newDelete(deps output.Deps) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a person, with every session, token and membership of theirs",
		Args:  output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			connection, err := deps.Connect("")
			if err != nil {
				return err
			}
			u, err := get(cmd.Context(), connection, args[0])
			if err != nil {
				return err
			}
			if err := confirm(cmd.Context(), deps, u, yes); err != nil {
				return err
			}
			if err := connection.Client.Delete(cmd.Context(), u, client.Preconditions{UID: &u.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
				return fmt.Errorf("cannot delete user %s: %w", u.Name, err)
			}
			_, err = fmt.Fprintf(deps.Streams.Out, "user %s deleted\n", u.Name)
			return err
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func confirm(ctx context.Context, deps output.Deps, u *v1alpha1.User, yes bool) error {
	if yes {
		return nil
	}
	if !deps.Terminal {
		return output.Usagef("cannot ask whether user %s shall be deleted: give --yes", u.Name)
	}
	answer, err := output.Answer(ctx, deps, fmt.Sprintf("Delete user %s (%s), with all rights in projects? [y/N] ", u.Name, u.Identity()))
	if err != nil {
		return err
	}
	if answer != "y" && answer != "yes" {
		return output.Refused("NotConfirmed", "", "cannot delete user %s: not confirmed", u.Name)
	}
	return nil
}
