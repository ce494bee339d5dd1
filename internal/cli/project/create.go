package project

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

const createExample = `  # ann makes clusters on two hosts, with one bundle
  slipway project create dev --member ann=ProjectAdministrator
  slipway grant add -p dev --host w1,w2 --bundle v1.36.3`

func newCreate(deps output.Deps) *cobra.Command {
	var spec v1alpha1.ProjectSpec
	var members []string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "create NAME",
		Short:   "Make a project; nothing is lent to it yet",
		Example: createExample,
		Args:    output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, text := range members {
				i := strings.LastIndex(text, "=")
				if i < 1 {
					return output.Usagef("cannot use --member %s: it reads WHO=ROLE", text)
				}
				is, err := roleOf(text[i+1:])
				if err != nil {
					return err
				}
				spec.Members = append(spec.Members, v1alpha1.ProjectMember{Kind: v1alpha1.MemberUser, Name: text[:i], Role: is})
			}
			connection, err := deps.Connect("")
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return create(ctx, deps, connection, &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: args[0]}, Spec: spec})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&spec.DisplayName, "display-name", "", "name for people")
	flags.StringVar(&spec.Description, "description", "", "what the project is for")
	flags.StringArrayVar(&members, "member", nil, "WHO=ROLE, repeated for more; "+roleHelp)
	flags.DurationVar(&timeout, "timeout", time.Minute, "how long to wait until the project can be used")
	return cmd
}

func create(ctx context.Context, deps output.Deps, connection *output.Connection, p *v1alpha1.Project) error {
	for _, m := range p.Spec.Members {
		warnUnknown(ctx, deps, connection, m)
	}
	if err := connection.Client.Create(ctx, p); err != nil {
		return fmt.Errorf("cannot make project %s: %w", p.Name, err)
	}
	err := output.Watch(ctx, connection.Client, &v1alpha1.ProjectList{}, nil, func(all []*v1alpha1.Project) (bool, error) {
		if len(all) == 0 {
			return false, output.Refused("Removed", "", "cannot make project %s: somebody has deleted it meanwhile", p.Name)
		}
		c := meta.FindStatusCondition(all[0].Status.Conditions, v1alpha1.ProjectReady)
		if c != nil && c.Reason == "NamespaceTaken" {
			return false, output.Refused(c.Reason, "slipway project delete "+p.Name, "cannot use project %s: %s", p.Name, c.Message)
		}
		return c != nil && c.Status == metav1.ConditionTrue, nil
	}, output.Named(p.Name))
	if err != nil {
		return output.WaitError(err, "project "+p.Name+" ready", "it is made; look: slipway project show "+p.Name)
	}
	_, err = fmt.Fprintf(deps.Streams.Out, "project %s made; lend it hosts and a bundle: slipway grant add -p %s --host NAME --bundle VERSION\n", p.Name, p.Name)
	return err
}

func newDelete(deps output.Deps) *cobra.Command {
	var yes bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a project and its grants; refused while it has clusters",
		Args:  output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			connection, err := deps.Connect(args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			p, err := get(ctx, connection, args[0])
			if err != nil {
				return err
			}
			if err := refuseUsed(ctx, connection, p); err != nil {
				return err
			}
			if err := confirm(ctx, deps, p, yes); err != nil {
				return err
			}
			return remove(ctx, deps, connection, p)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long to wait until it has gone")
	return cmd
}

// refuseUsed refuses what the server would hold, before anything is changed.
func refuseUsed(ctx context.Context, connection *output.Connection, p *v1alpha1.Project) error {
	var clusters v1alpha1.ClusterList
	if err := connection.Client.List(ctx, &clusters, client.InNamespace(p.Name)); err != nil {
		return fmt.Errorf("cannot see whether project %s has clusters: %w", p.Name, err)
	}
	if n := len(clusters.Items); n > 0 {
		return output.Refused("HasClusters", "delete them first: slipway cluster delete "+clusters.Items[0].Name+" -p "+p.Name,
			"cannot delete project %s: it holds cluster %s%s", p.Name, clusters.Items[0].Name, more(n-1))
	}
	return nil
}

func more(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

// confirm has a person type the name of the project that will be gone.
func confirm(ctx context.Context, deps output.Deps, p *v1alpha1.Project, yes bool) error {
	if yes {
		return nil
	}
	if !deps.Terminal {
		return output.Usagef("cannot ask whether project %s shall be deleted: give --yes", p.Name)
	}
	answer, err := output.Answer(ctx, deps, fmt.Sprintf("This deletes project %s with its grants, and takes the rights of its %d members.\nType its name to go on: ", p.Name, len(p.Spec.Members)))
	if err != nil {
		return err
	}
	if answer != p.Name {
		return output.Refused("NotConfirmed", "", "cannot delete project %s: not confirmed", p.Name)
	}
	return nil
}

func remove(ctx context.Context, deps output.Deps, connection *output.Connection, p *v1alpha1.Project) error {
	if err := connection.Client.Delete(ctx, p, client.Preconditions{UID: &p.UID}); err != nil {
		return fmt.Errorf("cannot delete project %s: %w", p.Name, err)
	}
	err := output.Watch(ctx, connection.Client, &v1alpha1.ProjectList{}, nil, func(all []*v1alpha1.Project) (bool, error) {
		if len(all) == 0 || all[0].UID != p.UID {
			return true, nil
		}
		if c := meta.FindStatusCondition(all[0].Status.Conditions, v1alpha1.ProjectReady); c != nil && c.Reason == "HasClusters" {
			return false, output.Refused(c.Reason, "do what is said above; the project then goes by itself", "cannot delete project %s yet: %s", p.Name, c.Message)
		}
		return false, nil
	}, output.Named(p.Name))
	if err != nil {
		return output.WaitError(err, "the end of project "+p.Name, "it goes on on the server; look: slipway project show "+p.Name)
	}
	_, err = fmt.Fprintf(deps.Streams.Out, "project %s deleted\n", p.Name)
	return err
}
