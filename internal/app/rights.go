package app

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"slipway.dev/slipway/api/v1alpha1"
)

// watchRights calls changed whenever somebody may have lost a right. It holds the metadata of what it watches and
// nothing of what is in it: no secret, no role.
func watchRights(ctx context.Context, c cache.Cache, changed func()) error {
	ours := v1alpha1.GroupVersion()
	for kind, lost := range map[schema.GroupVersionKind]func(was, is *metav1.PartialObjectMetadata) bool{
		ours.WithKind("User"):    otherSpec,
		ours.WithKind("Project"): otherSpec,
		ours.WithKind("Setting"): func(was, is *metav1.PartialObjectMetadata) bool {
			return was.Name == v1alpha1.SettingLogin && otherSpec(was, is)
		},
		corev1.SchemeGroupVersion.WithKind("Secret"):             endedLogin,
		rbacv1.SchemeGroupVersion.WithKind("Role"):               otherVersion,
		rbacv1.SchemeGroupVersion.WithKind("RoleBinding"):        otherVersion,
		rbacv1.SchemeGroupVersion.WithKind("ClusterRole"):        otherVersion,
		rbacv1.SchemeGroupVersion.WithKind("ClusterRoleBinding"): otherVersion,
	} {
		o := &metav1.PartialObjectMetadata{}
		o.SetGroupVersionKind(kind)
		informer, err := c.GetInformer(ctx, o, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("cannot watch %s: %w", kind.Kind, err)
		}
		// What is new takes nothing away from anyone.
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			UpdateFunc: func(before, after any) {
				was, ok := before.(*metav1.PartialObjectMetadata)
				is, also := after.(*metav1.PartialObjectMetadata)
				if !ok || !also || lost(was, is) {
					changed()
				}
			},
			DeleteFunc: func(gone any) {
				was, ok := gone.(*metav1.PartialObjectMetadata)
				if !ok || lost(was, nil) {
					changed()
				}
			},
		})
		if err != nil {
			return fmt.Errorf("cannot watch %s: %w", kind.Kind, err)
		}
	}
	return nil
}

// otherSpec says that an object is gone or wants something else; statuses change all the time.
func otherSpec(was, is *metav1.PartialObjectMetadata) bool {
	return is == nil || was.Generation != is.Generation || was.UID != is.UID || is.DeletionTimestamp != nil
}

func otherVersion(was, is *metav1.PartialObjectMetadata) bool {
	return is == nil || was.ResourceVersion != is.ResourceVersion
}

// endedLogin says that a session or a token is gone; the use of one changes it without ending it.
func endedLogin(was, is *metav1.PartialObjectMetadata) bool {
	return is == nil && was.Namespace == v1alpha1.SystemNamespace && (strings.HasPrefix(was.Name, "session-") || strings.HasPrefix(was.Name, "token-"))
}
