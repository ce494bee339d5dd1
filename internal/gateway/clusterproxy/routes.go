// Package clusterproxy owns people's ways into managed clusters: their requests, passed on over Slipway's own
// connection in their name, and kubeconfigs. It must never send a person's request with the rights of Slipway itself.
package clusterproxy

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/gateway"
)

// Deps is what the routes work with.
type Deps struct {
	// Client talks to the platform's API as Slipway itself.
	Client client.Client
	// Access says which rights a person has in a cluster.
	Access *access.Authorizer
	// Config says how Slipway itself reaches a cluster.
	Config func(ctx context.Context, project, name string) (*rest.Config, error)
	// Tokens makes the token of a kubeconfig.
	Tokens interface {
		Mint(context.Context, user.Info, auth.TokenRequest) (*auth.Token, error)
	}
	// CA gives the PEM certificates that clients of the platform must trust.
	CA func() []byte
	// Log receives what goes wrong; nil means silence.
	Log *slog.Logger
}

type handler struct {
	Deps

	mu sync.Mutex
	// links holds the way to each cluster that was asked for, by project and name.
	links map[string]*link
}

// Routes gives the routes into managed clusters.
func Routes(deps Deps) []gateway.Route {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	h := &handler{Deps: deps, links: map[string]*link{}}
	const base = "/slipway/v1/projects/{project}/clusters/{name}"
	rule := func(verb, subresource string) gateway.Rule {
		return gateway.Rule{RBAC: &access.Attributes{Verb: verb, Resource: "clusters", Subresource: subresource}}
	}
	routes := []gateway.Route{
		{Method: "POST", Path: base + "/kubeconfig", Rule: rule("create", "kubeconfig"), Verb: "kubeconfig", Serve: h.kubeconfig},
		{Method: "POST", Path: base + "/breakglass", Rule: rule("create", "breakglass"), Verb: "break-glass", Serve: h.breakGlass},
	}
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		routes = append(routes, gateway.Route{
			Method: method, Path: base + "/proxy/{path...}", Rule: rule("view", "proxy"),
			Verb: "cluster-proxy", Reads: reads, Long: true, Serve: h.proxy,
		})
	}
	return routes
}

// reads says that a request cannot change anything; the cluster's own log has it. What runs in a pod may come as a GET.
func reads(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return !gateway.IsUpgrade(r)
	}
	return false
}

// cluster gives the cluster of a request. What comes before it is created is a Conflict error that says what to do.
func (h *handler) cluster(r *http.Request) (*v1alpha1.Cluster, error) {
	var c v1alpha1.Cluster
	project, name := r.PathValue("project"), r.PathValue("name")
	if len(path.IsValidPathSegmentName(project)) > 0 || len(path.IsValidPathSegmentName(name)) > 0 {
		return nil, apierrors.NewNotFound(v1alpha1.GroupVersion().WithResource("clusters").GroupResource(), name)
	}
	if err := h.Client.Get(r.Context(), client.ObjectKey{Namespace: project, Name: name}, &c); err != nil {
		if apierrors.IsNotFound(err) {
			h.forget(project, name)
		}
		return nil, err
	}
	if c.Status.Endpoint == "" {
		return nil, notYet("cluster %s is not created yet; `slipway cluster status %s -p %s` says how far it is", name, name, project)
	}
	return &c, nil
}

// keys gives the keys of a cluster, and never those of one of the same name in another project.
func (h *handler) keys(ctx context.Context, c *v1alpha1.Cluster) (*corev1.Secret, error) {
	var keys corev1.Secret
	err := h.Client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: cluster.KeysName(c.Name)}, &keys)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if err != nil || !cluster.OwnsKeys(&keys, c.Namespace) {
		return nil, notYet("there are no keys of cluster %s: it is being made or deleted; try again when that has ended", c.Name)
	}
	return &keys, nil
}

// notYet is a Conflict error with nothing but the message.
func notYet(format string, values ...any) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusConflict, Reason: metav1.StatusReasonConflict, Message: fmt.Sprintf(format, values...),
	}}
}
