package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/api/v1alpha1"
)

func TestDropKeys(t *testing.T) {
	cases := map[string]struct {
		reason string
		labels map[string]string
		gone   bool
	}{
		"its own":         {reason: "the cluster is gone", labels: map[string]string{LabelProject: "dev"}, gone: true},
		"another project": {reason: "a living cluster of the same name has them", labels: map[string]string{LabelProject: "ops"}},
		"unmarked":        {reason: "keys that were made before projects were noted", gone: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			keys := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: KeysName("demo"), Labels: tc.labels}}
			c := clientfake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(keys).Build()
			for range 2 {
				if err := DropKeys(t.Context(), c, "dev", "demo"); err != nil {
					t.Fatalf("%s: %v", tc.reason, err)
				}
			}
			err := c.Get(t.Context(), client.ObjectKeyFromObject(keys), keys)
			if apierrors.IsNotFound(err) != tc.gone {
				t.Errorf("%s: %v", tc.reason, err)
			}
		})
	}
}
