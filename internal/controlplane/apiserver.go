package controlplane

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apimachinery/pkg/runtime"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle"
	mutatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	validatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota"
	mutatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	validatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/user"
	genericfilters "k8s.io/apiserver/pkg/endpoints/filters"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/util/notfoundhandler"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/kubernetes"
	aggregator "k8s.io/kube-aggregator/pkg/apiserver"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	kubecontrolplane "k8s.io/kubernetes/pkg/controlplane"
	generic "k8s.io/kubernetes/pkg/controlplane/apiserver"
	"k8s.io/kubernetes/pkg/controlplane/apiserver/options"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
	kubeoptions "k8s.io/kubernetes/pkg/kubeapiserver/options"

	"slipway.dev/slipway/internal/pki"
)

const (
	// serviceName names the API server in its own logs and metrics.
	serviceName = "slipway"
	// tokenIssuer is what service-account tokens of this API say they come from.
	tokenIssuer = "https://kubernetes.default.svc"
	// gatewayUser is who the gateway's requests come from before impersonation, in the audit log.
	gatewayUser = "system:slipway:gateway"
)

// servedAdmission is the admission that runs in this process. There is none of our own: what we check is said
// in CEL, so that it holds on any cluster.
func servedAdmission() sets.Set[string] {
	return sets.New(lifecycle.PluginName, mutatingwebhook.PluginName, validatingwebhook.PluginName,
		resourcequota.PluginName, validatingpolicy.PluginName, mutatingpolicy.PluginName)
}

// newAPIServer wires the chain of API servers: aggregator in front, then Kubernetes' generic kinds, then
// custom resources. Nothing listens to people; gatewayToken is what the gateway shows. A nil log records nothing.
func newAPIServer(ctx context.Context, f files, endpoint, gatewayToken string, log AuditLog, published <-chan struct{}) (*aggregator.APIAggregator, error) {
	completed, err := completeOptions(ctx, f, endpoint)
	if err != nil {
		return nil, fmt.Errorf("cannot configure the API server: %w", err)
	}
	resources := kubecontrolplane.DefaultGenericAPIResourceConfigSource()
	// No one signs certificate requests here, so they are not taken.
	resources.DisableVersions(certificatesv1.SchemeGroupVersion)
	config, informers, storage, err := generic.BuildGenericConfig(completed,
		[]*runtime.Scheme{legacyscheme.Scheme, apiextensionsapiserver.Scheme, aggregatorscheme.Scheme},
		resources, generatedopenapi.GetOpenAPIDefinitions, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot configure the API server: %w", err)
	}
	config.Authentication.Authenticator = union.New(authenticatorfactory.NewFromTokens(map[string]*user.DefaultInfo{
		gatewayToken: {Name: gatewayUser, Groups: []string{user.AllAuthenticated, user.SystemPrivilegedGroup}},
	}, config.Authentication.APIAudiences), config.Authentication.Authenticator)
	if log != nil {
		config.AuditBackend, config.AuditPolicyRuleEvaluator = auditBackend{log}, auditRules{}
	}
	config.BuildHandlerChainFunc = func(handler http.Handler, c *genericapiserver.Config) http.Handler {
		return holdSchemas(ctx, genericapiserver.DefaultBuildHandlerChain(handler, c), published)
	}
	// These speak to other API servers of the same cluster; there are none, and they would write every few seconds.
	config.DisabledPostStartHooks.Insert("start-kube-apiserver-identity-lease-controller",
		"start-kube-apiserver-identity-lease-garbage-collector", "peer-endpoint-reconciler-controller", "start-legacy-token-tracking-controller")

	resolver := webhook.NewDefaultServiceResolver()
	core, initializers, err := generic.CreateConfig(completed, config, informers, nil, storage, resolver, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot configure the API server: %w", err)
	}
	authInfo := webhook.NewDefaultAuthenticationInfoResolverWrapper(core.ProxyTransport, core.Generic.EgressSelector,
		core.Generic.LoopbackClientConfig, core.Generic.TracerProvider)
	// With one API server a CRD is Established at once; with more it would wait five seconds for the others.
	const servers = 1
	extensions, err := generic.CreateAPIExtensionsConfig(*core.Generic, core.VersionedInformers, initializers, completed, servers, resolver, authInfo)
	if err != nil {
		return nil, fmt.Errorf("cannot configure custom resources: %w", err)
	}
	front, err := generic.CreateAggregatorConfig(*core.Generic, completed, core.VersionedInformers, resolver, core.ProxyTransport, core.Extra.PeerProxy, initializers)
	if err != nil {
		return nil, fmt.Errorf("cannot configure API aggregation: %w", err)
	}
	front.ExtraConfig.DisableRemoteAvailableConditionController = true
	return chain(front.Complete(), core.Complete(), extensions.Complete())
}

// holdSchemas lets the list of schemas be read once those of our kinds are in it. The admission of mutating policies
// reads it when it starts and then every five seconds only: a list without our kinds would have it refuse what people
// want until the next time. This package's own clients pass, since they look whether it is so.
func holdSchemas(ctx context.Context, next http.Handler, published <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/openapi/v3" && r.UserAgent() != userAgent {
			select {
			case <-published:
			case <-r.Context().Done():
			case <-ctx.Done():
			}
		}
		next.ServeHTTP(w, r)
	})
}

func chain(front aggregator.CompletedConfig, core generic.CompletedConfig, extensions apiextensionsapiserver.CompletedConfig) (*aggregator.APIAggregator, error) {
	notFound := notfoundhandler.New(core.Generic.Serializer, genericfilters.NoMuxAndDiscoveryIncompleteKey)
	customResources, err := extensions.New(genericapiserver.NewEmptyDelegateWithCustomHandler(notFound))
	if err != nil {
		return nil, fmt.Errorf("cannot make the custom resource server: %w", err)
	}
	kinds, err := core.New(serviceName, customResources.GenericAPIServer)
	if err != nil {
		return nil, fmt.Errorf("cannot make the API server: %w", err)
	}
	client, err := kubernetes.NewForConfig(core.Generic.LoopbackClientConfig)
	if err != nil {
		return nil, fmt.Errorf("cannot make the API server's own client: %w", err)
	}
	storage, err := core.GenericStorageProviders(client.Discovery())
	if err != nil {
		return nil, fmt.Errorf("cannot make the API server's storage: %w", err)
	}
	if err := kinds.InstallAPIs(storage...); err != nil {
		return nil, fmt.Errorf("cannot install the generic kinds: %w", err)
	}
	crds := customResources.Informers.Apiextensions().V1().CustomResourceDefinitions()
	crdsServed := extensions.GenericConfig.MergedResourceConfig.ResourceEnabled(apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions"))
	server, err := generic.CreateAggregatorServer(front, kinds.GenericAPIServer, crds, crdsServed, generic.DefaultGenericAPIServicePriorities())
	if err != nil {
		return nil, fmt.Errorf("cannot make the aggregator: %w", err)
	}
	return server, nil
}

func completeOptions(ctx context.Context, f files, endpoint string) (options.CompletedOptions, error) {
	o := options.NewOptions()
	o.GenericServerRunOptions.AdvertiseAddress = net.IPv4(127, 0, 0, 1)
	// Keep answering while requests drain, then close within two seconds whatever watches are open.
	o.GenericServerRunOptions.ShutdownSendRetryAfter = true
	o.Etcd.StorageConfig.Transport.ServerList = []string{endpoint}
	o.Etcd.EncryptionProviderConfigFilepath = f.encryption
	o.Admission.GenericAdmission.DefaultOffPlugins = sets.New(kubeoptions.AllOrderedPlugins...).Difference(servedAdmission())
	// Requests carry the gateway's token, our own controllers' token, or a service account's; nothing else.
	o.Authentication = kubeoptions.NewBuiltInAuthenticationOptions().WithClientCert().WithRequestHeader().WithServiceAccounts()
	o.Authentication.ServiceAccounts.KeyFiles = []string{f.serviceAccountKey}
	o.Authentication.ServiceAccounts.Issuers = []string{tokenIssuer}
	o.Authentication.ServiceAccounts.OptionalTokenGetter = newTokenGetter
	o.ServiceAccountSigningKeyFile = f.serviceAccountKey
	o.Authorization.Modes = []string{"RBAC"}
	// Nothing sets options for metrics, and an empty set of them is logged as an error.
	o.Metrics = nil
	o.EventTTL = 24 * time.Hour
	// Without a port and a listener Complete does not mint a certificate of its own.
	o.SecureServing.BindPort = 0
	completed, err := o.Complete(ctx, nil, nil)
	if err != nil {
		return completed, err
	}
	if err := listenOnLoopback(completed); err != nil {
		return completed, err
	}
	return completed, utilerrors.NewAggregate(completed.Validate())
}

// listenOnLoopback opens a free port on 127.0.0.1 with a certificate that lives as long as this process.
func listenOnLoopback(o options.CompletedOptions) error {
	loopback := net.IPv4(127, 0, 0, 1)
	ca, err := pki.NewCA("slipway-loopback", 10*365*24*time.Hour)
	if err != nil {
		return err
	}
	certPEM, keyPEM, err := ca.Issue(pki.Template{CommonName: "slipway-apiserver", DNSNames: []string{"localhost"}, IPs: []net.IP{loopback}, ValidFor: 10 * 365 * 24 * time.Hour})
	if err != nil {
		return err
	}
	if o.SecureServing.ServerCert.GeneratedCert, err = dynamiccertificates.NewStaticCertKeyContent("loopback", certPEM, keyPEM); err != nil {
		return fmt.Errorf("cannot use serving certificate: %w", err)
	}
	o.SecureServing.BindAddress = loopback
	o.SecureServing.Listener, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: loopback})
	if err != nil {
		return fmt.Errorf("cannot listen on loopback: %w", err)
	}
	o.SecureServing.BindPort = o.SecureServing.Listener.Addr().(*net.TCPAddr).Port
	return nil
}
