package host

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

func newRemove(deps output.Deps) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "remove NAME...",
		Aliases: []string{"rm"},
		Short:   "Take hosts out; refused while a cluster holds them",
		Long: "Take hosts out, with the login that was stored for each. The machines themselves are not touched.\n" +
			"Refused while a cluster holds the host.",
		Args: output.Args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			connection, err := deps.Connect("")
			if err != nil {
				return err
			}
			return remove(cmd.Context(), deps, connection, args, yes)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func remove(ctx context.Context, deps output.Deps, connection *output.Connection, names []string, yes bool) error {
	if !yes && deps.Terminal {
		if _, err := fmt.Fprintf(deps.Streams.ErrOut, "Remove %s? [y/N] ", strings.Join(names, ", ")); err != nil {
			return err
		}
		answer, err := readLine(ctx, deps)
		if err != nil {
			return err
		}
		if answer != "y" && answer != "yes" {
			return output.Refused("NotConfirmed", "", "cannot remove %s: not confirmed", strings.Join(names, ", "))
		}
	}
	var failed []error
	for _, name := range names {
		if err := removeOne(ctx, connection.Client, name); err != nil {
			failed = append(failed, err)
			continue
		}
		if _, err := fmt.Fprintf(deps.Streams.Out, "host %s removed\n", name); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

func removeOne(ctx context.Context, c client.Client, name string) error {
	var host v1alpha1.Host
	if err := c.Get(ctx, client.ObjectKey{Name: name}, &host); err != nil {
		return fmt.Errorf("cannot remove host %s: %w", name, err)
	}
	holder := holder(&host)
	var claim v1alpha1.HostClaim
	err := c.Get(ctx, client.ObjectKey{Name: name}, &claim)
	switch {
	case err == nil:
		holder = claim.Spec.Namespace + "/" + claim.Spec.Cluster
	case !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err):
		return fmt.Errorf("cannot remove host %s: %w", name, err)
	}
	if holder != "" {
		project, cluster, _ := strings.Cut(holder, "/")
		return output.Refused("HostClaimed", "delete that cluster first: slipway cluster delete "+cluster+" -p "+project,
			"cannot remove host %s: cluster %s holds it", name, holder)
	}
	if err := c.Delete(ctx, &host, client.Preconditions{UID: &host.UID}); err != nil {
		return fmt.Errorf("cannot remove host %s: %w", name, err)
	}
	return removeLogin(ctx, c, &host)
}

// removeLogin deletes the login that was made for a host, unless another host uses it now.
func removeLogin(ctx context.Context, c client.Client, host *v1alpha1.Host) error {
	var credential v1alpha1.Credential
	err := c.Get(ctx, client.ObjectKey{Name: host.Spec.Credential}, &credential)
	if apierrors.IsNotFound(err) || err == nil && credential.Labels[labelHost] != host.Name {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove the login of host %s: %w", host.Name, err)
	}
	var others v1alpha1.HostList
	if err := c.List(ctx, &others); err != nil {
		return fmt.Errorf("cannot remove the login of host %s: %w", host.Name, err)
	}
	for i := range others.Items {
		if others.Items[i].Name != host.Name && others.Items[i].Spec.Credential == credential.Name {
			return nil
		}
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: credential.Spec.SecretName}}
	for _, object := range []client.Object{&credential, secret} {
		if err := client.IgnoreNotFound(c.Delete(ctx, object)); err != nil {
			return fmt.Errorf("cannot remove the login of host %s: %w", host.Name, err)
		}
	}
	return nil
}
