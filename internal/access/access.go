// Package access owns what people may do: the roles, the admission policies that RBAC cannot say, and the one way
// in which everything beside the API asks RBAC. It must never let anyone in that RBAC does not: deny by default.
package access

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// The groups that the server puts people in, beside those of a directory. Nobody else can claim them.
const (
	// SystemAdministrators may do everything that the built-in admin may, but not change admin.
	SystemAdministrators = "slipway:system-administrators"
	// Auditors read everything, and the audit log.
	Auditors = "slipway:auditors"
)

// Attributes is what someone wants to do, in RBAC's words. An empty Namespace means: in the whole platform.
type Attributes struct {
	// Group is the API group; empty means slipway.dev (nothing here asks about the core group).
	Group, Verb, Resource, Subresource, Namespace, Name string
}

// Authorizer asks RBAC, with a SubjectAccessReview, so that it works on any Kubernetes.
type Authorizer struct{ client client.Client }

// NewAuthorizer gives an Authorizer. The client must be allowed to create SubjectAccessReviews.
func NewAuthorizer(c client.Client) *Authorizer { return &Authorizer{client: c} }

// Allowed says whether who may do it. The error says that RBAC could not be asked; treat that as no.
func (a *Authorizer) Allowed(ctx context.Context, who user.Info, what Attributes) (bool, error) {
	group := what.Group
	if group == "" {
		group = v1alpha1.Group
	}
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range who.GetExtra() {
		extra[k] = v
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: who.GetName(), Groups: who.GetGroups(), UID: who.GetUID(), Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: group, Version: "*", Resource: what.Resource, Subresource: what.Subresource,
			Namespace: what.Namespace, Name: what.Name, Verb: what.Verb,
		},
	}}
	if err := a.client.Create(ctx, review); err != nil {
		return false, fmt.Errorf("cannot ask who may %s %s: %w", what.Verb, what.Resource, err)
	}
	return review.Status.Allowed, nil
}

// Authorize gives nil when who may do it, and a Forbidden error that names person, verb and object when not.
func (a *Authorizer) Authorize(ctx context.Context, who user.Info, what Attributes) error {
	ok, err := a.Allowed(ctx, who, what)
	if err != nil || ok {
		return err
	}
	resource, where := what.Resource, ""
	if what.Subresource != "" {
		resource += "/" + what.Subresource
	}
	if what.Namespace != "" {
		where = " in project " + what.Namespace
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: v1alpha1.Group, Resource: what.Resource}, what.Name,
		fmt.Errorf("%s may not %s %s%s", who.GetName(), what.Verb, resource, where))
}
