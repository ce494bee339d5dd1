// Package grant owns the command `slipway grant`: lending hosts and bundles to projects, taking them back, and showing
// what is lent. It must never lend anything by itself: who may lend, the server decides.
package grant

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// New gives the command `grant` with its sub-commands.
func New(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "grant",
		Aliases: []string{"grants"},
		Short:   "Lend hosts and bundles to a project, and see what is lent",
	}
	project := output.ProjectFlag(cmd)
	return output.Noun(cmd, newAdd(deps, project), newRemove(deps, project), newList(deps, project))
}

func list(ctx context.Context, connection *output.Connection) (*v1alpha1.GrantList, error) {
	var all v1alpha1.GrantList
	if err := connection.Client.List(ctx, &all, client.InNamespace(connection.Project)); err != nil {
		return nil, fmt.Errorf("cannot list grants: %w", err)
	}
	return &all, nil
}

func newList(deps output.Deps, project *string) *cobra.Command {
	var expand bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List what is lent to a project",
		Args:    output.Args(cobra.NoArgs),
	}
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.Flags().BoolVar(&expand, "expand", false, "each host and bundle that can be used, instead of the grants")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		connection, err := deps.Connect(*project)
		if err != nil {
			return err
		}
		if expand {
			return printLent(cmd.Context(), deps, connection, *format)
		}
		all, err := list(cmd.Context(), connection)
		if err != nil {
			return err
		}
		if format.Machine() {
			return output.PrintList(deps.Streams.Out, *format, all, connection.Client.Scheme())
		}
		if len(all.Items) == 0 {
			return nothing(deps, connection)
		}
		rows := [][]string{{"NAME", "KIND", "LENDS", "READY", "SUMMARY", "AGE"}}
		for _, g := range all.Items {
			rows = append(rows, []string{g.Name, string(g.Spec.Kind), g.Spec.Name, ready(&g), g.Status.Summary, output.Age(deps.Clock(), g.CreationTimestamp)})
		}
		return output.Table(deps.Streams.Out, "", rows...)
	}
	return cmd
}

func nothing(deps output.Deps, connection *output.Connection) error {
	_, err := fmt.Fprintf(deps.Streams.ErrOut, "Nothing is lent to project %s. A system administrator lends: slipway grant add -p %s --host NAME --bundle VERSION\n",
		connection.Project, connection.Project)
	return err
}

// ready gives "True", or the reason why what is lent cannot be used.
func ready(g *v1alpha1.Grant) string {
	c := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.GrantReady)
	switch {
	case c == nil:
		return "Unknown"
	case c.Status == "True":
		return "True"
	default:
		return c.Reason
	}
}

// lent is one host or bundle that is lent, as the server answers.
type lent struct {
	Kind    v1alpha1.GrantKind `json:"kind"`
	Name    string             `json:"name"`
	Usable  bool               `json:"usable"`
	Reason  string             `json:"reason,omitempty"`
	Summary string             `json:"summary,omitempty"`
	InUse   bool               `json:"inUse,omitempty"`
	Cluster string             `json:"cluster,omitempty"`
}

func printLent(ctx context.Context, deps output.Deps, connection *output.Connection, format output.Format) error {
	all := []lent{}
	for _, of := range []struct {
		kind v1alpha1.GrantKind
		path string
	}{{v1alpha1.GrantHost, "hosts"}, {v1alpha1.GrantBundle, "bundles"}} {
		raw, err := output.Raw(connection.REST.Get().AbsPath("slipway", "v1", "projects", connection.Project, of.path).SetHeader("Accept", "application/json").Do(ctx))
		if err != nil {
			return fmt.Errorf("cannot list the %s of project %s: %w", of.path, connection.Project, err)
		}
		var answer struct {
			Items []lent `json:"items"`
		}
		if err := json.Unmarshal(raw, &answer); err != nil {
			return fmt.Errorf("cannot list the %s of project %s: %w", of.path, connection.Project, err)
		}
		for _, l := range answer.Items {
			l.Kind = of.kind
			all = append(all, l)
		}
	}
	out := deps.Streams.Out
	switch {
	case format == output.FormatName:
		for _, l := range all {
			if _, err := fmt.Fprintln(out, output.Line(l.Name)); err != nil {
				return err
			}
		}
		return nil
	case format.Machine():
		return output.PrintValue(out, format, all)
	case len(all) == 0:
		return nothing(deps, connection)
	}
	rows := [][]string{{"KIND", "NAME", "READY", "SUMMARY"}}
	for _, l := range all {
		state := l.Reason
		if l.Usable {
			state = "True"
		}
		rows = append(rows, []string{string(l.Kind), l.Name, state, l.Summary})
	}
	return output.Table(out, "", rows...)
}
