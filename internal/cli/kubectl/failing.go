package kubectl

import (
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// failing is a kubeconfig that could not be found: every use of it says why.
type failing struct{ err error }

// RawConfig says why there is no kubeconfig.
func (f failing) RawConfig() (clientcmdapi.Config, error) { return *clientcmdapi.NewConfig(), f.err }

// ClientConfig says why there is no kubeconfig.
func (f failing) ClientConfig() (*rest.Config, error) { return nil, f.err }

// Namespace says why there is no kubeconfig.
func (f failing) Namespace() (string, bool, error) { return "", false, f.err }

// ConfigAccess gives where kubeconfigs are looked for, which is nowhere.
func (f failing) ConfigAccess() clientcmd.ConfigAccess { return &clientcmd.ClientConfigLoadingRules{} }
