package cluster

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

func newSaveTemplate(deps output.Deps, project *string) *cobra.Command {
	var name, description string
	cmd := &cobra.Command{
		Use:   "save-template NAME",
		Short: "Save the shape of a cluster as a ClusterTemplate, from which others are created",
		Long: "Save everything a cluster says but its hosts and its address as a ClusterTemplate. Use it with\n" +
			"slipway cluster create NAME --template TEMPLATE.",
		Args: output.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&name, "as", "", "name of the template (default: that of the cluster)")
	cmd.Flags().StringVar(&description, "description", "", "what the template is for")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		connection, err := deps.Connect(*project)
		if err != nil {
			return err
		}
		cluster, err := get(cmd.Context(), connection, args[0])
		if err != nil {
			return err
		}
		if name == "" {
			name = cluster.Name
		}
		template := &v1alpha1.ClusterTemplate{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: templateOf(&cluster.Spec)}
		template.Spec.Description = description
		if err := connection.Client.Create(cmd.Context(), template); err != nil {
			return fmt.Errorf("cannot save template %s: %w", name, err)
		}
		_, err = fmt.Fprintf(deps.Streams.Out, "template %s saved\n", name)
		return err
	}
	return cmd
}

// templateOf keeps everything but hosts and addresses.
func templateOf(spec *v1alpha1.ClusterSpec) v1alpha1.ClusterTemplateSpec {
	t := v1alpha1.ClusterTemplateSpec{
		Kubernetes: spec.Kubernetes, ControlPlane: v1alpha1.TemplateControlPlane{Count: int32(len(spec.ControlPlane.Hosts))},
		Endpoint: v1alpha1.TemplateEndpoint{Provider: spec.Endpoint.Provider, Port: spec.Endpoint.Port},
		Network:  spec.Network, Runtime: spec.Runtime, Components: spec.Components, HostSetup: spec.HostSetup,
	}
	for _, p := range spec.WorkerPools {
		t.WorkerPools = append(t.WorkerPools, v1alpha1.TemplateWorkerPool{Name: p.Name, Count: int32(len(p.Hosts)), Labels: p.Labels, Taints: p.Taints})
	}
	return t
}

// readTemplate fills spec with the shape of a template; its pools are still without hosts.
func readTemplate(ctx context.Context, connection *output.Connection, name string, spec *v1alpha1.ClusterSpec) error {
	var t v1alpha1.ClusterTemplate
	if err := connection.Client.Get(ctx, client.ObjectKey{Name: name}, &t); err != nil {
		return fmt.Errorf("cannot read template %s: %w", name, err)
	}
	*spec = v1alpha1.ClusterSpec{
		Kubernetes: t.Spec.Kubernetes, Endpoint: v1alpha1.EndpointSpec{Provider: t.Spec.Endpoint.Provider, Port: t.Spec.Endpoint.Port},
		Network: t.Spec.Network, Runtime: t.Spec.Runtime, Components: t.Spec.Components, HostSetup: t.Spec.HostSetup,
	}
	for _, p := range t.Spec.WorkerPools {
		spec.WorkerPools = append(spec.WorkerPools, v1alpha1.WorkerPool{Name: p.Name, Labels: p.Labels, Taints: p.Taints})
	}
	return nil
}

// complete refuses what a template cannot say and the command line left out.
func complete(spec *v1alpha1.ClusterSpec) error {
	for _, p := range spec.WorkerPools {
		if len(p.Hosts) == 0 {
			return output.Usagef("cannot tell which hosts are in pool %s: give --pool %s=HOST,HOST", p.Name, p.Name)
		}
	}
	if spec.Endpoint.Provider == v1alpha1.EndpointKubeVIP && spec.Endpoint.Host == "" {
		return output.Usagef("cannot tell the address of the cluster: give --virtual-ip")
	}
	return nil
}
