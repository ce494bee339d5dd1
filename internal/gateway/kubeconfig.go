package gateway

import (
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"slipway.dev/slipway/internal/pki"
)

// WriteKubeconfig writes a kubeconfig (mode 600) with one context: the server's URL, the CA to trust in PEM,
// and the bearer token of the named user.
func WriteKubeconfig(path, serverURL string, caPEM []byte, userName, token string) error {
	const name = "slipway"
	content, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: serverURL, CertificateAuthorityData: caPEM}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{userName: {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: userName}},
		CurrentContext: name,
	})
	if err != nil {
		return fmt.Errorf("cannot write kubeconfig %s: %w", path, err)
	}
	return pki.WriteFile(path, content, 0o600)
}
