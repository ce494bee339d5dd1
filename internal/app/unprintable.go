package app

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/controlplane"
	"slipway.dev/slipway/internal/secret"
)

// learn lets a set know the values of a Secret of slipway-system. Those that are digests already stay out: nobody can
// use what they say.
func learn(set *secret.Set, s *corev1.Secret) {
	switch s.Type {
	case v1alpha1.SecretTypePassword, v1alpha1.SecretTypeSession, v1alpha1.SecretTypeToken, v1alpha1.SecretTypeSetup:
		return
	}
	if s.Namespace == v1alpha1.SystemNamespace {
		set.Keep(s.Name, string(s.UID)+"/"+s.ResourceVersion, slices.Collect(maps.Values(s.Data))...)
	}
}

// learnSecrets keeps a set in step with the Secrets of slipway-system, which the cache holds already.
func learnSecrets(ctx context.Context, c cache.Cache, set *secret.Set) error {
	informer, err := c.GetInformer(ctx, &corev1.Secret{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("cannot watch Secrets: %w", err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { learnObject(set, o) },
		UpdateFunc: func(_, o any) { learnObject(set, o) },
		DeleteFunc: func(o any) {
			if unknown, missed := o.(toolscache.DeletedFinalStateUnknown); missed {
				o = unknown.Obj
			}
			if s, ok := o.(*corev1.Secret); ok && s.Namespace == v1alpha1.SystemNamespace {
				set.Drop(s.Name)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("cannot watch Secrets: %w", err)
	}
	return nil
}

func learnObject(set *secret.Set, o any) {
	if s, ok := o.(*corev1.Secret); ok {
		learn(set, s)
	}
}

// learningReader lets a set know each Secret before the one who reads it does: the cache's events come a little later.
type learningReader struct {
	client.Reader
	set *secret.Set
}

// Get reads an object.
func (r learningReader) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	if err := r.Reader.Get(ctx, key, o, options...); err != nil {
		return err
	}
	learnObject(r.set, o)
	return nil
}

// quietAudit takes secrets out of what people and parts say in the audit log. What they did it to stays as it is.
type quietAudit struct {
	controlplane.AuditLog
	set *secret.Set
}

// Record passes the event on.
func (q quietAudit) Record(e audit.Event) {
	e.Reason = q.set.Redact(e.Reason)
	if len(e.Detail) > 0 {
		detail := make(map[string]string, len(e.Detail))
		for k, v := range e.Detail {
			detail[k] = q.set.Redact(v)
		}
		e.Detail = detail
	}
	q.AuditLog.Record(e)
}
