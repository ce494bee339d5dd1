package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/rest"
	aggregator "k8s.io/kube-aggregator/pkg/apiserver"
)

// poll is how often the starting API server is asked, since it has no event to wait for before it serves.
const poll = 50 * time.Millisecond

// userAgent is what our own clients call themselves.
const userAgent = "slipway"

// serve runs the API server until its context ends; then apiDone is closed.
func (s *Server) serve(ctx context.Context, api *aggregator.APIAggregator) error {
	prepared, err := api.PrepareRun()
	if err != nil {
		return fmt.Errorf("cannot prepare the API server: %w", err)
	}
	s.serving = true
	go func() {
		defer close(s.apiDone)
		if err := prepared.Run(ctx); err != nil {
			s.fail(fmt.Errorf("API server ended: %w", err))
		}
	}()
	return nil
}

// loopbackConfig turns the API server's own client configuration into one for our clients.
func loopbackConfig(loopback *rest.Config) *rest.Config {
	config := rest.CopyConfig(loopback)
	config.ContentType, config.AcceptContentTypes = "", ""
	config.QPS, config.Burst = -1, -1
	config.UserAgent = userAgent
	config.WarningHandler = rest.NoWarnings{}
	return config
}

// makeReady returns when the API server is ready and every CRD is served; both go on side by side.
func (s *Server) makeReady(ctx context.Context, crds []*apiextensionsv1.CustomResourceDefinition) error {
	extensions, err := apiextensions.NewForConfig(s.config)
	if err != nil {
		return fmt.Errorf("cannot reach the API server: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return persist(ctx, func(ctx context.Context) (bool, error) { return false, s.Ready(ctx) })
	})
	group.Go(func() error { return installCRDs(ctx, extensions, crds) })
	return group.Wait()
}

// installCRDs applies the CRDs and waits until clients find their kinds and schemas.
func installCRDs(ctx context.Context, client apiextensions.Interface, crds []*apiextensionsv1.CustomResourceDefinition) error {
	group, applying := errgroup.WithContext(ctx)
	for _, crd := range crds {
		group.Go(func() error { return applyCRD(applying, client, crd) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	err := persist(ctx, func(context.Context) (bool, error) { return false, served(client.Discovery(), crds) })
	if err != nil {
		return fmt.Errorf("cannot serve our kinds: %w", err)
	}
	return nil
}

// persist tries until it works, until trying again is hopeless, or until ctx ends; then it gives the last error.
func persist(ctx context.Context, try func(context.Context) (hopeless bool, err error)) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
		var hopeless bool
		if hopeless, last = try(ctx); hopeless {
			return false, last
		}
		return last == nil, nil
	})
	if err != nil && last != nil {
		return last
	}
	return err
}

func applyCRD(ctx context.Context, client apiextensions.Interface, crd *apiextensionsv1.CustomResourceDefinition) error {
	body, err := applyBody(crd)
	if err != nil {
		return fmt.Errorf("cannot install CRD %s: %w", crd.Name, err)
	}
	force := true
	err = persist(ctx, func(ctx context.Context) (bool, error) {
		_, err := client.ApiextensionsV1().CustomResourceDefinitions().Patch(ctx, crd.Name, types.ApplyPatchType, body,
			metav1.PatchOptions{FieldManager: "slipway", Force: &force, FieldValidation: metav1.FieldValidationStrict})
		return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err), err
	})
	if err != nil {
		return fmt.Errorf("cannot install CRD %s: %w", crd.Name, err)
	}
	return nil
}

// served gives nil once every kind is found by discovery, and its schema too. The schemas of a version come one kind
// after the other, and are asked for last since each asking has the API server write all of them out.
func served(client discovery.DiscoveryInterface, crds []*apiextensionsv1.CustomResourceDefinition) error {
	kinds := map[schema.GroupVersion]sets.Set[string]{}
	for _, crd := range crds {
		for _, version := range crd.Spec.Versions {
			if version.Served {
				gv := schema.GroupVersion{Group: crd.Spec.Group, Version: version.Name}
				kinds[gv] = sets.New(crd.Spec.Names.Kind).Union(kinds[gv])
			}
		}
	}
	for gv, wanted := range kinds {
		list, err := client.ServerResourcesForGroupVersion(gv.String())
		if err != nil {
			return err
		}
		have := sets.New[string]()
		for _, r := range list.APIResources {
			have.Insert(r.Kind)
		}
		if missing := wanted.Difference(have); len(missing) > 0 {
			return fmt.Errorf("%s does not serve %v yet", gv, sets.List(missing))
		}
	}
	paths, err := client.OpenAPIV3().Paths()
	if err != nil {
		return err
	}
	for gv, wanted := range kinds {
		have, err := schemasOf(paths["apis/"+gv.String()])
		if err != nil {
			return fmt.Errorf("cannot read the schemas of %s: %w", gv, err)
		}
		if missing := wanted.Difference(have); len(missing) > 0 {
			return fmt.Errorf("%s has no schema of %v yet", gv, sets.List(missing))
		}
	}
	return nil
}

// schemasOf gives the kinds that a version has schemas of; nil has none.
func schemasOf(version openapi.GroupVersion) (sets.Set[string], error) {
	if version == nil {
		return nil, nil
	}
	content, err := version.Schema(runtime.ContentTypeJSON)
	if err != nil {
		return nil, err
	}
	var document struct {
		Components struct {
			Schemas map[string]struct {
				Kinds []metav1.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(content, &document); err != nil {
		return nil, err
	}
	found := sets.New[string]()
	for _, s := range document.Components.Schemas {
		for _, gvk := range s.Kinds {
			found.Insert(gvk.Kind)
		}
	}
	return found, nil
}

// applyBody gives the CRD as an apply patch: without what the API server itself writes.
func applyBody(crd *apiextensionsv1.CustomResourceDefinition) ([]byte, error) {
	content, err := json.Marshal(crd)
	if err != nil {
		return nil, err
	}
	var object map[string]any
	if err := json.Unmarshal(content, &object); err != nil {
		return nil, err
	}
	object["apiVersion"], object["kind"] = apiextensionsv1.SchemeGroupVersion.String(), "CustomResourceDefinition"
	delete(object, "status")
	if metadata, ok := object["metadata"].(map[string]any); ok {
		delete(metadata, "creationTimestamp")
	}
	return json.Marshal(object)
}
