package controlplane

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	quota "k8s.io/apiserver/pkg/quota/v1"
	quotageneric "k8s.io/apiserver/pkg/quota/v1/generic"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/resourcequota"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
	quotacore "k8s.io/kubernetes/pkg/quota/v1/evaluator/core"
	quotainstall "k8s.io/kubernetes/pkg/quota/v1/install"
)

const (
	// informerResync is how often informers hand every object out again.
	informerResync = 12 * time.Hour
	// discoveryPeriod is how often the collectors look for kinds that have come or gone.
	discoveryPeriod = 10 * time.Second
)

// machinery is what Kubernetes' controllers share.
type machinery struct {
	client   kubernetes.Interface
	metadata metadata.Interface
	typed    informers.SharedInformerFactory
	all      informerfactory.InformerFactory
	started  chan struct{}
}

// startControllers runs the controllers of Kubernetes that the generic API needs to behave as one expects:
// deleted namespaces empty themselves, owners take their dependents along, aggregated roles fill up, every
// namespace has its default account, and quotas are counted. They end with the context; running counts them.
func startControllers(ctx context.Context, running *sync.WaitGroup, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("cannot start Kubernetes' controllers: %w", err)
	}
	metadataClient, err := metadata.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("cannot start Kubernetes' controllers: %w", err)
	}
	m := &machinery{
		client:   client,
		metadata: metadataClient,
		typed:    informers.NewSharedInformerFactoryWithOptions(client, informerResync, informers.WithTransform(withoutManagedFields)),
		started:  make(chan struct{}),
	}
	untyped := metadatainformer.NewSharedInformerFactoryWithOptions(metadataClient, informerResync, metadatainformer.WithTransform(withoutManagedFields))
	m.all = informerfactory.NewInformerFactory(m.typed, untyped)

	var loops []func(context.Context)
	for _, build := range []func(context.Context) ([]func(context.Context), error){
		m.namespaces, m.garbage, m.roles, m.accounts, m.quotas,
	} {
		built, err := build(ctx)
		if err != nil {
			return fmt.Errorf("cannot start Kubernetes' controllers: %w", err)
		}
		loops = append(loops, built...)
	}
	m.typed.Start(ctx.Done())
	untyped.Start(ctx.Done())
	close(m.started)
	for _, loop := range loops {
		running.Go(func() { loop(ctx) })
	}
	return nil
}

func (m *machinery) namespaces(ctx context.Context) ([]func(context.Context), error) {
	c := namespace.NewNamespaceController(ctx, m.client, m.metadata, m.client.Discovery().ServerPreferredNamespacedResources,
		m.typed.Core().V1().Namespaces(), 5*time.Minute, corev1.FinalizerKubernetes)
	return []func(context.Context){func(ctx context.Context) { c.Run(ctx, 10) }}, nil
}

func (m *machinery) garbage(ctx context.Context) ([]func(context.Context), error) {
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(m.client.Discovery()))
	c, err := garbagecollector.NewGarbageCollector(ctx, m.client, m.metadata, mapper, garbagecollector.DefaultIgnoredResources(), m.all, m.started)
	if err != nil {
		return nil, err
	}
	return []func(context.Context){
		func(ctx context.Context) { c.Run(ctx, 10, discoveryPeriod) },
		func(ctx context.Context) { c.Sync(ctx, m.client.Discovery(), discoveryPeriod) },
	}, nil
}

func (m *machinery) roles(context.Context) ([]func(context.Context), error) {
	c := clusterroleaggregation.NewClusterRoleAggregation(m.typed.Rbac().V1().ClusterRoles(), m.client.RbacV1())
	return []func(context.Context){func(ctx context.Context) { c.Run(ctx, 2) }}, nil
}

func (m *machinery) accounts(ctx context.Context) ([]func(context.Context), error) {
	c, err := serviceaccount.NewServiceAccountsController(klog.FromContext(ctx), m.typed.Core().V1().ServiceAccounts(),
		m.typed.Core().V1().Namespaces(), m.client, serviceaccount.DefaultServiceAccountsControllerOptions())
	if err != nil {
		return nil, err
	}
	return []func(context.Context){func(ctx context.Context) { c.Run(ctx, 1) }}, nil
}

func (m *machinery) quotas(ctx context.Context) ([]func(context.Context), error) {
	// Only what this API serves is evaluated: a quota on pods would make an informer that fails for ever.
	served := func(gvr schema.GroupVersionResource) bool {
		switch gvr.Resource {
		case "configmaps", "secrets", "resourcequotas":
			return true
		}
		return false
	}
	evaluators, err := quotacore.NewEvaluators(quotageneric.ListerFuncForResourceFunc(m.typed.ForResource), m.typed, served)
	if err != nil {
		return nil, err
	}
	discover := m.client.Discovery().ServerPreferredNamespacedResources
	c, err := resourcequota.NewController(ctx, &resourcequota.ControllerOptions{
		QuotaClient:               m.client.CoreV1(),
		ResourceQuotaInformer:     m.typed.Core().V1().ResourceQuotas(),
		ResyncPeriod:              controller.StaticResyncPeriodFunc(5 * time.Minute),
		InformerFactory:           m.all,
		ReplenishmentResyncPeriod: controller.StaticResyncPeriodFunc(informerResync),
		DiscoveryFunc:             discover,
		IgnoredResourcesFunc:      quotainstall.DefaultIgnoredResources,
		InformersStarted:          m.started,
		Registry:                  quotageneric.NewRegistry([]quota.Evaluator(evaluators)),
		UpdateFilter:              quotainstall.DefaultUpdateFilter(),
	})
	if err != nil {
		return nil, err
	}
	return []func(context.Context){
		func(ctx context.Context) { c.Run(ctx, 2) },
		func(ctx context.Context) { c.Sync(ctx, discover, discoveryPeriod) },
	}, nil
}

// withoutManagedFields keeps out of caches what no controller reads and what weighs most.
func withoutManagedFields(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}
