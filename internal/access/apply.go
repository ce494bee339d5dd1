package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

const (
	// fieldOwner is who the fields of what this package keeps belong to.
	fieldOwner = "slipway-access"
	// together is how many requests run side by side.
	together = 16
	// askAgain is how often the API server is asked whether the policies are in force; it has no event that says so.
	askAgain = 20 * time.Millisecond
	// inForceTime bounds how long that may take. The API server looks for new policies every second, and for the
	// schemas of kinds every five.
	inForceTime = 30 * time.Second
)

// Apply makes the roles and policies of the API those of this version, removes what only another version had, and
// returns once the API server enforces the policies. It may be cut off anywhere and run again. The client must be the
// server's own, past every cache, and namespace slipway-system must exist. What somebody has changed by hand is put back.
func Apply(ctx context.Context, c client.Client) error {
	policies, err := policies()
	if err != nil {
		return err
	}
	roles, err := roleObjects()
	if err != nil {
		return err
	}
	if err := applyAll(ctx, c, append(roles, policies...)); err != nil {
		return err
	}
	// The probe is written last, so whoever sees it in force has seen what was written before it.
	generation := generationOf(policies)
	probes := probes(generation)
	if err := removeOthers(ctx, c, slices.Concat(roles, policies, probes)); err != nil {
		return err
	}
	for _, p := range probes {
		if err := apply(ctx, c, p); err != nil {
			return err
		}
	}
	return waitInForce(ctx, c, generation)
}

func applyAll(ctx context.Context, c client.Client, objects []*unstructured.Unstructured) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	for _, o := range objects {
		group.Go(func() error { return apply(ctx, c, o) })
	}
	return group.Wait()
}

// apply makes an object what it is here, and reads back what the API has. What somebody else has added would stay, such
// as a condition under which a policy does not hold, or does not go with what is here: then the object is made anew.
func apply(ctx context.Context, c client.Client, wanted *unstructured.Unstructured) error {
	wanted.SetLabels(map[string]string{LabelPart: partAccess})
	put := func() (*unstructured.Unstructured, error) {
		o := wanted.DeepCopy()
		return o, c.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(fieldOwner), client.ForceOwnership)
	}
	have, err := put()
	if apierrors.IsInvalid(err) || err == nil && slices.ContainsFunc(have.GetManagedFields(), foreign) {
		if err = client.IgnoreNotFound(c.Delete(ctx, wanted.DeepCopy())); err == nil {
			have, err = put()
		}
	}
	if err != nil {
		return fmt.Errorf("cannot apply %s %s: %w", wanted.GetKind(), wanted.GetName(), err)
	}
	wanted.Object = have.Object
	return nil
}

func foreign(f metav1.ManagedFieldsEntry) bool { return f.Manager != fieldOwner && f.Subresource == "" }

// removeOthers deletes what bears our label and is not wanted.
func removeOthers(ctx context.Context, c client.Client, wanted []*unstructured.Unstructured) error {
	keep := map[string]bool{}
	kinds := map[schema.GroupVersionKind]bool{}
	key := func(o *unstructured.Unstructured) string {
		return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
	}
	for _, o := range wanted {
		keep[key(o)], kinds[o.GroupVersionKind()] = true, true
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	for gvk := range kinds {
		group.Go(func() error {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(gvk)
			if err := c.List(ctx, list, client.MatchingLabels{LabelPart: partAccess}); err != nil {
				return fmt.Errorf("cannot list %s: %w", gvk.Kind, err)
			}
			for i := range list.Items {
				o := &list.Items[i]
				if keep[key(o)] {
					continue
				}
				if err := client.IgnoreNotFound(c.Delete(ctx, o)); err != nil {
					return fmt.Errorf("cannot delete %s %s, which this version does not have: %w", gvk.Kind, o.GetName(), err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// generationOf tells what is stored now from what was stored before anything of it was written.
func generationOf(stored []*unstructured.Unstructured) string {
	var lines []string
	for _, o := range stored {
		lines = append(lines, string(o.GetUID())+" "+o.GetResourceVersion())
	}
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:8])
}

// waitInForce returns when the API server refuses the probe because of policies of that generation. Nothing is stored.
func waitInForce(ctx context.Context, c client.Client, generation string) error {
	ctx, cancel := context.WithTimeout(ctx, inForceTime)
	defer cancel()
	last := errors.New("the API server was not asked")
	err := wait.PollUntilContextCancel(ctx, askAgain, true, func(ctx context.Context) (bool, error) {
		// The API server lets whoever creates an object of a kind that is new wait for two seconds, but not who applies one.
		err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(probe()), client.FieldOwner(fieldOwner), client.ForceOwnership, client.DryRunAll)
		switch {
		case err == nil:
			last = errors.New("the API server does not refuse what they refuse")
			return false, nil
		case apierrors.IsForbidden(err) && strings.Contains(err.Error(), inForce(generation)):
			return true, nil
		case apierrors.IsForbidden(err), apierrors.IsServiceUnavailable(err):
			last = err
			return false, nil
		default:
			return false, err
		}
	})
	if err != nil {
		return fmt.Errorf("cannot put the admission policies in force: %w", errors.Join(err, last))
	}
	return nil
}

func probe() *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"verb": string(v1alpha1.VerbDelete), "cluster": probeName}}}
	o.SetGroupVersionKind(v1alpha1.GroupVersion().WithKind("Operation"))
	o.SetNamespace(v1alpha1.SystemNamespace)
	o.SetName(probeName)
	return o
}

// roleObjects gives the roles and the bindings of those for the whole platform.
func roleObjects() ([]*unstructured.Unstructured, error) {
	var objects []runtime.Object
	for _, r := range append(platformRoles(), projectRoles()...) {
		objects = append(objects, &rbacv1.ClusterRole{TypeMeta: kind("ClusterRole"), ObjectMeta: metav1.ObjectMeta{Name: r.Name}, Rules: r.rules})
		if r.group != "" {
			objects = append(objects, &rbacv1.ClusterRoleBinding{
				TypeMeta: kind("ClusterRoleBinding"), ObjectMeta: metav1.ObjectMeta{Name: r.Name},
				RoleRef: roleRef("ClusterRole", r.Name), Subjects: []rbacv1.Subject{groupSubject(r.group)},
			})
		}
	}
	credentials := metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: roleCredentials}
	objects = append(objects,
		&rbacv1.Role{TypeMeta: kind("Role"), ObjectMeta: credentials, Rules: credentialRules()},
		&rbacv1.RoleBinding{
			TypeMeta: kind("RoleBinding"), ObjectMeta: credentials,
			RoleRef: roleRef("Role", roleCredentials), Subjects: []rbacv1.Subject{groupSubject(SystemAdministrators)},
		})
	var all []*unstructured.Unstructured
	for _, o := range objects {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return nil, fmt.Errorf("cannot write roles: %w", err)
		}
		all = append(all, &unstructured.Unstructured{Object: content})
	}
	return all, nil
}

func groupSubject(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}
}
