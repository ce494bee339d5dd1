package auth

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
)

const (
	blueToken = "blue-0123456789abcdef0123456789abcdef"
	redToken  = "red-0123456789abcdef0123456789abcdef0"
)

func keysOf(cluster, token string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "cluster-" + cluster, Labels: map[string]string{v1alpha1.LabelCluster: cluster}},
		Type:       v1alpha1.SecretTypeKeys,
		Data:       map[string][]byte{registryTokenKey: []byte(token)},
	}
}

// tokens gives the tokens of the objects, and counts how often they are read.
func tokens(reads *int, away *error, objects ...client.Object) (*RegistryTokens, client.Client) {
	c := clientfake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(objects...).
		WithInterceptorFuncs(interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			*reads++
			if *away != nil {
				return *away
			}
			return c.List(ctx, list, opts...)
		}}).Build()
	return NewRegistryTokens(c, 0), c
}

func authorize(t *RegistryTokens, header string) error {
	r := httptest.NewRequest("GET", "/v2/", nil)
	if header != "" {
		r.Header.Set("Authorization", header)
	}
	return t.Authorize(r)
}

func TestRegistryTokens(t *testing.T) {
	unlabelled := keysOf("green", "green-0123456789abcdef0123456789abcdef")
	unlabelled.Labels = nil
	elsewhere := keysOf("else", "else-0123456789abcdef0123456789abcdef")
	elsewhere.Namespace = "dev"
	otherKind := keysOf("kind", "kind-0123456789abcdef0123456789abcdef")
	otherKind.Type = v1alpha1.SecretTypeCredential
	cases := map[string]struct {
		reason, header string
		allowed        bool
	}{
		"its own":         {reason: "a cluster's host", header: "Bearer " + blueToken, allowed: true},
		"another's":       {reason: "bundles are the same for all", header: "Bearer " + redToken, allowed: true},
		"none":            {reason: "deny by default", header: ""},
		"wrong":           {reason: "of no cluster", header: "Bearer " + blueToken + "x"},
		"empty":           {reason: "a Secret without a token lets nobody in", header: "Bearer "},
		"short":           {reason: "somebody wrote a word into the Secret", header: "Bearer short"},
		"basic":           {reason: "another scheme", header: "Basic " + blueToken},
		"unlabelled":      {reason: "no cluster's Secret", header: "Bearer green-0123456789abcdef0123456789abcdef"},
		"other kind":      {reason: "what a person may make is no cluster's Secret, whatever it is labelled", header: "Bearer kind-0123456789abcdef0123456789abcdef"},
		"other namespace": {reason: "people may write Secrets there", header: "Bearer else-0123456789abcdef0123456789abcdef"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var reads int
			var away error
			tokens, _ := tokens(&reads, &away, keysOf("blue", blueToken), keysOf("red", redToken), keysOf("word", "short"), keysOf("none", ""), unlabelled, elsewhere, otherKind)
			if err := authorize(tokens, tc.header); (err == nil) != tc.allowed {
				t.Errorf("%s: %v", tc.reason, err)
			}
		})
	}
}

// TestRegistryTokensLife: a new token is found at once, one that is gone is refused after 30 s, and the API is spared.
func TestRegistryTokensLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads int
		var away error
		tokens, c := tokens(&reads, &away, keysOf("blue", blueToken))
		for range 100 {
			if err := authorize(tokens, "Bearer "+blueToken); err != nil {
				t.Fatal(err)
			}
			if err := authorize(tokens, "Bearer "+redToken); err == nil {
				t.Fatal("a token of no cluster was let in")
			}
		}
		if reads != 1 {
			t.Errorf("%d reads within one second, want one: guessing must not load the API", reads)
		}
		if err := c.Create(t.Context(), keysOf("red", redToken)); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Second)
		if err := authorize(tokens, "Bearer "+redToken); err != nil {
			t.Errorf("a new cluster's token: %v", err)
		}
		if err := c.Delete(t.Context(), keysOf("blue", blueToken)); err != nil {
			t.Fatal(err)
		}
		<-time.After(31 * time.Second)
		if err := authorize(tokens, "Bearer "+blueToken); err == nil {
			t.Error("the token of a deleted cluster still reads bundles")
		}
		away = errors.New("no API")
		<-time.After(31 * time.Second)
		if err := authorize(tokens, "Bearer "+redToken); !errors.Is(err, away) {
			t.Errorf("%v: what cannot be read is not believed", err)
		}
	})
}
