package grant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// loan is what the flags name.
type loan struct{ hosts, bundles, locations []string }

func (l *loan) flags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&l.hosts, "host", nil, "hosts, separated by commas; '*' is every host, also those added later")
	cmd.Flags().StringSliceVar(&l.bundles, "bundle", nil, "bundles (Kubernetes versions), separated by commas; '*' is every bundle")
	cmd.Flags().StringSliceVar(&l.locations, "backup-location", nil, "backup locations, separated by commas; '*' is every one")
}

func (l *loan) specs() ([]v1alpha1.GrantSpec, error) {
	var specs []v1alpha1.GrantSpec
	for _, name := range l.hosts {
		specs = append(specs, v1alpha1.GrantSpec{Kind: v1alpha1.GrantHost, Name: name})
	}
	for _, name := range l.bundles {
		specs = append(specs, v1alpha1.GrantSpec{Kind: v1alpha1.GrantBundle, Name: name})
	}
	for _, name := range l.locations {
		specs = append(specs, v1alpha1.GrantSpec{Kind: v1alpha1.GrantBackupLocation, Name: name})
	}
	if len(specs) == 0 {
		return nil, output.Usagef("cannot tell what is meant: give --host, --bundle or --backup-location")
	}
	return specs, nil
}

// nameOf gives the name of the Grant, so that the same loan is never made twice.
func nameOf(s v1alpha1.GrantSpec) string {
	kind := strings.ToLower(string(s.Kind))
	if s.Name == v1alpha1.GrantEverything {
		return kind + "s-all"
	}
	return kind + "-" + s.Name
}

func what(s v1alpha1.GrantSpec) string {
	kind := strings.ToLower(string(s.Kind))
	if s.Name == v1alpha1.GrantEverything {
		return "every " + kind
	}
	return kind + " " + s.Name
}

func newAdd(deps output.Deps, project *string) *cobra.Command {
	var l loan
	cmd := &cobra.Command{
		Use:     "add (--host NAME,... | --bundle VERSION,...)",
		Short:   "Lend hosts and bundles to a project",
		Example: "  slipway grant add -p dev --host w1,w2 --bundle v1.36.3",
		Args:    output.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			specs, err := l.specs()
			if err != nil {
				return err
			}
			connection, err := deps.Connect(*project)
			if err != nil {
				return err
			}
			var failed []error
			for _, s := range specs {
				failed = append(failed, add(cmd.Context(), deps, connection, s))
			}
			return errors.Join(failed...)
		},
	}
	l.flags(cmd)
	return cmd
}

func add(ctx context.Context, deps output.Deps, connection *output.Connection, s v1alpha1.GrantSpec) error {
	g := &v1alpha1.Grant{ObjectMeta: metav1.ObjectMeta{Namespace: connection.Project, Name: nameOf(s)}, Spec: s}
	err := connection.Client.Create(ctx, g)
	already := ""
	if apierrors.IsAlreadyExists(err) {
		var have v1alpha1.Grant
		if err := connection.Client.Get(ctx, client.ObjectKeyFromObject(g), &have); err != nil {
			return fmt.Errorf("cannot lend %s: %w", what(s), err)
		}
		if have.Spec != s {
			return output.Refused("AlreadyExists", "slipway grant remove -p "+connection.Project+" "+g.Name,
				"cannot lend %s: the grant %s lends %s", what(s), g.Name, what(have.Spec))
		}
		already, err = ", as before", nil
	}
	if err != nil {
		return fmt.Errorf("cannot lend %s to project %s: %w", what(s), connection.Project, err)
	}
	warnMissing(ctx, deps, connection, s)
	_, err = fmt.Fprintf(deps.Streams.Out, "%s is lent to project %s by grant %s%s\n", what(s), connection.Project, g.Name, already)
	return err
}

// warnMissing tells of a name that nothing has, which may be a mistake. Who may not look is not told.
func warnMissing(ctx context.Context, deps output.Deps, connection *output.Connection, s v1alpha1.GrantSpec) {
	if s.Name == v1alpha1.GrantEverything {
		return
	}
	var o client.Object = &v1alpha1.Host{}
	switch s.Kind {
	case v1alpha1.GrantBundle:
		o = &v1alpha1.Bundle{}
	case v1alpha1.GrantBackupLocation:
		o = &v1alpha1.BackupLocation{}
	}
	if err := connection.Client.Get(ctx, client.ObjectKey{Name: s.Name}, o); apierrors.IsNotFound(err) {
		// A warning that cannot be printed must not stop the work.
		_, _ = fmt.Fprintf(deps.Streams.ErrOut, "there is no %s yet; it is lent as soon as there is\n", output.Line(what(s)))
	}
}

func newRemove(deps output.Deps, project *string) *cobra.Command {
	var l loan
	cmd := &cobra.Command{
		Use:     "remove (NAME... | --host NAME,... | --bundle VERSION,...)",
		Aliases: []string{"rm"},
		Short:   "Take grants back; clusters that use what was lent keep it",
		Args:    output.Args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			connection, err := deps.Connect(*project)
			if err != nil {
				return err
			}
			all, err := list(cmd.Context(), connection)
			if err != nil {
				return err
			}
			chosen, err := l.choose(all.Items, args)
			if err != nil {
				return err
			}
			var failed []error
			for _, g := range chosen {
				failed = append(failed, remove(cmd.Context(), deps, connection, g))
			}
			if err := errors.Join(failed...); err != nil {
				return err
			}
			return tellStillLent(deps, all.Items, chosen)
		},
	}
	l.flags(cmd)
	return cmd
}

// choose finds the grants by name and by what they lend; one that is not there is an error before anything is changed.
func (l *loan) choose(all []v1alpha1.Grant, names []string) ([]*v1alpha1.Grant, error) {
	var chosen []*v1alpha1.Grant
	pick := func(text string, is func(*v1alpha1.Grant) bool) error {
		found := false
		for i := range all {
			if is(&all[i]) {
				chosen, found = append(chosen, &all[i]), true
			}
		}
		if !found {
			return output.WithCode(output.ExitNotFound, output.Refused("NotFound", "look: slipway grant list", "cannot take back %s: there is no such grant", text))
		}
		return nil
	}
	for _, name := range names {
		if err := pick("grant "+name, func(g *v1alpha1.Grant) bool { return g.Name == name }); err != nil {
			return nil, err
		}
	}
	if len(names) > 0 && len(l.hosts)+len(l.bundles) == 0 {
		return chosen, nil
	}
	specs, err := l.specs()
	if err != nil {
		return nil, err
	}
	for _, s := range specs {
		if err := pick(what(s), func(g *v1alpha1.Grant) bool { return g.Spec == s }); err != nil {
			return nil, err
		}
	}
	return chosen, nil
}

func remove(ctx context.Context, deps output.Deps, connection *output.Connection, g *v1alpha1.Grant) error {
	if err := client.IgnoreNotFound(connection.Client.Delete(ctx, g)); err != nil {
		return fmt.Errorf("cannot take back grant %s: %w", g.Name, err)
	}
	_, err := fmt.Fprintf(deps.Streams.Out, "taken back from project %s: %s (grant %s)\n", connection.Project, what(g.Spec), g.Name)
	return err
}

// tellStillLent tells of what other grants lend all the same, which may surprise.
func tellStillLent(deps output.Deps, all []v1alpha1.Grant, gone []*v1alpha1.Grant) error {
	told := map[v1alpha1.GrantSpec]bool{}
	for _, g := range gone {
		for i := range all {
			o := &all[i]
			if told[g.Spec] || slices.Contains(gone, o) || !o.Spec.Lends(g.Spec.Kind, g.Spec.Name) {
				continue
			}
			told[g.Spec] = true
			if _, err := fmt.Fprintf(deps.Streams.ErrOut, "%s is still lent by grant %s\n", what(g.Spec), o.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
