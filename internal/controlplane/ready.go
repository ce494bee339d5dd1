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
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
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
		var last error
		err := wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
			last = s.Ready(ctx)
			return last == nil, nil
		})
		if err != nil && last != nil {
			return last
		}
		return err
	})
	for _, crd := range crds {
		group.Go(func() error { return installCRD(ctx, extensions, crd) })
	}
	return group.Wait()
}

// installCRD applies a CRD and waits until its newest version is found by clients.
func installCRD(ctx context.Context, client apiextensions.Interface, crd *apiextensionsv1.CustomResourceDefinition) error {
	body, err := applyBody(crd)
	if err != nil {
		return fmt.Errorf("cannot install CRD %s: %w", crd.Name, err)
	}
	applied, force := false, true
	var last error
	err = wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
		if !applied {
			_, last = client.ApiextensionsV1().CustomResourceDefinitions().Patch(ctx, crd.Name, types.ApplyPatchType, body,
				metav1.PatchOptions{FieldManager: "slipway", Force: &force, FieldValidation: metav1.FieldValidationStrict})
			if apierrors.IsInvalid(last) || apierrors.IsBadRequest(last) {
				return false, last
			}
			applied = last == nil
			return false, nil
		}
		last = served(client.Discovery(), crd)
		return last == nil, nil
	})
	if err != nil {
		if last != nil {
			err = last
		}
		return fmt.Errorf("cannot install CRD %s: %w", crd.Name, err)
	}
	return nil
}

func served(client discovery.DiscoveryInterface, crd *apiextensionsv1.CustomResourceDefinition) error {
	schemas, err := client.OpenAPIV3().Paths()
	if err != nil {
		return err
	}
	for _, version := range crd.Spec.Versions {
		if !version.Served {
			continue
		}
		gv := crd.Spec.Group + "/" + version.Name
		if schemas["apis/"+gv] == nil {
			return fmt.Errorf("the schemas of %s are not served yet", gv)
		}
		list, err := client.ServerResourcesForGroupVersion(gv)
		if err != nil {
			return err
		}
		found := false
		for _, resource := range list.APIResources {
			found = found || resource.Name == crd.Spec.Names.Plural
		}
		if !found {
			return fmt.Errorf("%s is not served in %s yet", crd.Spec.Names.Plural, gv)
		}
	}
	return nil
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
