// Package project owns the command `slipway project`: making projects, looking at them, and saying who may work in
// them. It must never decide what a role may do: the server does.
package project

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// New gives the command `project` with its sub-commands.
func New(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "project",
		Aliases: []string{"projects"},
		Short:   "Make projects, and say who may work in them",
	}
	return output.Noun(cmd, newList(deps), newCreate(deps), newShow(deps), newAddMember(deps), newRemoveMember(deps), newDelete(deps))
}

func get(ctx context.Context, connection *output.Connection, name string) (*v1alpha1.Project, error) {
	var p v1alpha1.Project
	if err := connection.Client.Get(ctx, client.ObjectKey{Name: name}, &p); err != nil {
		return nil, fmt.Errorf("cannot find project %s: %w", name, err)
	}
	return &p, nil
}

func newList(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List your projects; a system administrator's are all",
		Args:    output.Args(cobra.NoArgs),
	}
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		connection, err := deps.Connect("")
		if err != nil {
			return err
		}
		list, err := connection.Projects(cmd.Context())
		if err != nil {
			return err
		}
		if format.Machine() {
			return output.PrintList(deps.Streams.Out, *format, list, connection.Client.Scheme())
		}
		if len(list.Items) == 0 {
			_, err := fmt.Fprintln(deps.Streams.ErrOut, "No projects. A system administrator makes them and adds members: slipway project create NAME")
			return err
		}
		rows := [][]string{{"NAME", "DISPLAY NAME", "READY", "CLUSTERS", "MEMBERS", "AGE"}}
		for i := range list.Items {
			p := &list.Items[i]
			rows = append(rows, []string{p.Name, p.Spec.DisplayName, ready(p), fmt.Sprint(p.Status.Clusters),
				fmt.Sprint(len(p.Spec.Members)), output.Age(deps.Clock(), p.CreationTimestamp)})
		}
		return output.Table(deps.Streams.Out, "", rows...)
	}
	return cmd
}

// ready gives "True", or the reason why not.
func ready(p *v1alpha1.Project) string {
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ProjectReady)
	switch {
	case c == nil:
		return "Unknown"
	case c.Status == "True":
		return "True"
	default:
		return c.Reason
	}
}

func newShow(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a project: its members, and what is lent to it",
		Args:  output.Args(cobra.ExactArgs(1)),
	}
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		connection, err := deps.Connect(args[0])
		if err != nil {
			return err
		}
		p, err := get(cmd.Context(), connection, args[0])
		if err != nil {
			return err
		}
		if format.Machine() {
			return output.PrintObject(deps.Streams.Out, *format, p, connection.Client.Scheme())
		}
		var grants v1alpha1.GrantList
		if err := connection.Client.List(cmd.Context(), &grants, client.InNamespace(p.Name)); err != nil {
			return fmt.Errorf("cannot list the grants of project %s: %w", p.Name, err)
		}
		return show(deps, p, grants.Items)
	}
	return cmd
}

func show(deps output.Deps, p *v1alpha1.Project, grants []v1alpha1.Grant) error {
	out := deps.Streams.Out
	sections := [][][]string{{
		{"name:", p.Name}, {"display name:", p.Spec.DisplayName}, {"description:", p.Spec.Description},
		{"clusters:", fmt.Sprint(p.Status.Clusters)}, {"ready:", readyText(p)},
	}}
	if len(p.Spec.Members) > 0 {
		rows := [][]string{{"MEMBER", "KIND", "ROLE"}}
		for _, m := range p.Spec.Members {
			rows = append(rows, []string{m.Name, string(m.Kind), string(m.Role)})
		}
		sections = append(sections, rows)
	}
	if len(grants) > 0 {
		rows := [][]string{{"GRANT", "KIND", "LENDS", "SUMMARY"}}
		for _, g := range grants {
			rows = append(rows, []string{g.Name, string(g.Spec.Kind), g.Spec.Name, g.Status.Summary})
		}
		sections = append(sections, rows)
	}
	for i, rows := range sections {
		if i > 0 {
			if _, err := fmt.Fprintln(out); err != nil {
				return err
			}
		}
		if err := output.Table(out, "", rows...); err != nil {
			return err
		}
	}
	return nil
}

func readyText(p *v1alpha1.Project) string {
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ProjectReady); c != nil && c.Status != "True" {
		return c.Reason + ": " + c.Message
	}
	return ready(p)
}
