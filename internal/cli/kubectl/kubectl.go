// Package kubectl gives the verbs of kubectl that are Slipway's too, with kubectl's own code. It chooses which
// cluster they talk to and nothing else: it adds no flag and changes no output.
package kubectl

import (
	"errors"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/kubectl/pkg/cmd/annotate"
	"k8s.io/kubectl/pkg/cmd/apiresources"
	"k8s.io/kubectl/pkg/cmd/apply"
	"k8s.io/kubectl/pkg/cmd/create"
	deletecmd "k8s.io/kubectl/pkg/cmd/delete"
	"k8s.io/kubectl/pkg/cmd/describe"
	"k8s.io/kubectl/pkg/cmd/edit"
	"k8s.io/kubectl/pkg/cmd/explain"
	"k8s.io/kubectl/pkg/cmd/get"
	"k8s.io/kubectl/pkg/cmd/label"
	"k8s.io/kubectl/pkg/cmd/patch"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/cmd/wait"
)

// NewFlags gives the connection flags of kubectl (--kubeconfig, --context, --namespace, --server, ...) with
// client-side throttling switched off, as the server has its own. Add them with AddFlags to the root command.
// There is no --as: the server takes no one's word for whom they speak for.
func NewFlags() *genericclioptions.ConfigFlags {
	flags := genericclioptions.NewConfigFlags(true).WithDiscoveryBurst(300).WithDiscoveryQPS(50).
		WithWrapConfigFn(func(config *rest.Config) *rest.Config {
			config.QPS, config.Burst = -1, -1
			return config
		})
	flags.Impersonate, flags.ImpersonateUID, flags.ImpersonateGroup, flags.ImpersonateUserExtra = nil, nil, nil, nil
	return flags
}

// Getter gives client configurations and mappers for the flags. When neither --kubeconfig nor KUBECONFIG is
// given, it asks defaultPath for the kubeconfig; ~/.kube/config is never used, since that is another cluster's.
func Getter(flags *genericclioptions.ConfigFlags, defaultPath func() (string, error)) genericclioptions.RESTClientGetter {
	return &getter{flags: flags, defaultPath: defaultPath}
}

// Factory gives what kubectl's commands are made from, on top of Getter.
func Factory(flags *genericclioptions.ConfigFlags, defaultPath func() (string, error)) cmdutil.Factory {
	return cmdutil.NewFactory(Getter(flags, defaultPath))
}

// Commands gives get, describe, create, apply, patch, edit, label, annotate, delete, wait, explain and api-resources. Parent is the name of the
// program, for examples. Like kubectl they end the process with exit code 1 when they fail.
func Commands(parent string, factory cmdutil.Factory, streams genericiooptions.IOStreams) []*cobra.Command {
	return []*cobra.Command{
		get.NewCmdGet(parent, factory, streams),
		describe.NewCmdDescribe(parent, factory, streams),
		create.NewCmdCreate(factory, streams),
		apply.NewCmdApply(parent, factory, streams),
		patch.NewCmdPatch(factory, streams),
		label.NewCmdLabel(factory, streams),
		annotate.NewCmdAnnotate(parent, factory, streams),
		deletecmd.NewCmdDelete(factory, streams),
		wait.NewCmdWait(factory, streams),
		explain.NewCmdExplain(parent, factory, streams),
		edit.NewCmdEdit(factory, streams),
		apiresources.NewCmdAPIResources(factory, streams),
	}
}

type getter struct {
	flags       *genericclioptions.ConfigFlags
	defaultPath func() (string, error)
}

// resolve fills --kubeconfig once the flags are parsed; before that it is not known whether it was given.
func (g *getter) resolve() error {
	given := g.flags.KubeConfig != nil && *g.flags.KubeConfig != "" || os.Getenv(clientcmd.RecommendedConfigPathEnvVar) != ""
	if given || g.defaultPath == nil {
		return nil
	}
	path, err := g.defaultPath()
	if err != nil {
		return err
	}
	if path == "" {
		return errors.New("cannot find a server to talk to: log in with `slipway login URL`, or give --kubeconfig or set KUBECONFIG")
	}
	g.flags.KubeConfig = &path
	return nil
}

// ToRESTConfig gives the client configuration of the chosen kubeconfig.
func (g *getter) ToRESTConfig() (*rest.Config, error) {
	if err := g.resolve(); err != nil {
		return nil, err
	}
	return g.flags.ToRESTConfig()
}

// ToDiscoveryClient gives a discovery client whose answers are cached on disk.
func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	if err := g.resolve(); err != nil {
		return nil, err
	}
	return g.flags.ToDiscoveryClient()
}

// ToRESTMapper gives a mapper between kinds and resources of the chosen server.
func (g *getter) ToRESTMapper() (meta.RESTMapper, error) {
	if err := g.resolve(); err != nil {
		return nil, err
	}
	return g.flags.ToRESTMapper()
}

// ToRawKubeConfigLoader gives the chosen kubeconfig as it is.
func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	if err := g.resolve(); err != nil {
		return failing{err: err}
	}
	return g.flags.ToRawKubeConfigLoader()
}
