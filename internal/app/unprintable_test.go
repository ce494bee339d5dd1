package app

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/secret"
)

// TestLearningReader holds which Secrets make text unprintable, and that reading one does so at once.
func TestLearningReader(t *testing.T) {
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		reason, namespace string
		kind              corev1.SecretType
		masked            bool
	}{
		"credential": {"a login's values", v1alpha1.SystemNamespace, v1alpha1.SecretTypeCredential, true},
		"keys":       {"a cluster's keys", v1alpha1.SystemNamespace, v1alpha1.SecretTypeKeys, true},
		"opaque":     {"older objects have no type", v1alpha1.SystemNamespace, corev1.SecretTypeOpaque, true},
		"password":   {"a digest says nothing, and there may be many", v1alpha1.SystemNamespace, v1alpha1.SecretTypePassword, false},
		"session":    {"a digest says nothing, and there may be many", v1alpha1.SystemNamespace, v1alpha1.SecretTypeSession, false},
		"foreign":    {"what people keep in projects is not ours", "dev", corev1.SecretTypeOpaque, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "s", UID: types.UID(name)}, Type: c.kind, Data: map[string][]byte{"value": []byte("the value of it")}}
			set := &secret.Set{}
			reader := learningReader{fake.NewClientBuilder().WithScheme(scheme).WithObjects(s).Build(), set}
			if err := reader.Get(t.Context(), client.ObjectKeyFromObject(s), &corev1.Secret{}); err != nil {
				t.Fatal(err)
			}
			if masked := set.Redact("<the value of it>") == "<"+secret.Mask+">"; masked != c.masked {
				t.Errorf("masked: %v, want %v: %s", masked, c.masked, c.reason)
			}
		})
	}
}

type kept struct{ events []audit.Event }

func (k *kept) Record(e audit.Event) { k.events = append(k.events, e) }
func (k *kept) Close() error         { return nil }

func TestQuietAudit(t *testing.T) {
	set, log := &secret.Set{}, &kept{}
	set.Add([]byte("open sesame"))
	detail := map[string]string{"why": "forgot open sesame"}
	quietAudit{log, set}.Record(audit.Event{Actor: "alice", Object: "clusters dev/blue", Reason: "said open sesame", Detail: detail})
	want := []audit.Event{{Actor: "alice", Object: "clusters dev/blue", Reason: "said " + secret.Mask, Detail: map[string]string{"why": "forgot " + secret.Mask}}}
	if diff := cmp.Diff(want, log.events); diff != "" {
		t.Errorf("-want +got %s", diff)
	}
	if !strings.Contains(fmt.Sprint(detail), "open sesame") {
		t.Error("the caller's own map was changed")
	}
}
