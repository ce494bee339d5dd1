package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// registryTokenKey is the key of a cluster's Secret that holds its registry token.
const registryTokenKey = "registry-token"

// RegistryTokens lets the hosts of clusters read bundles: each cluster has a token of its own, which ends with it.
type RegistryTokens struct {
	client client.Reader
	// life is how long what was read is believed; a new token is found at once all the same.
	life time.Duration

	mu    sync.Mutex
	known map[[sha256.Size]byte]bool
	read  time.Time
}

// NewRegistryTokens reads tokens from the clusters' Secrets. A token of a deleted cluster is refused after
// life at most; zero means 30 s.
func NewRegistryTokens(c client.Reader, life time.Duration) *RegistryTokens {
	if life <= 0 {
		life = 30 * time.Second
	}
	return &RegistryTokens{client: c, life: life}
}

// Authorize gives nil when the request bears the token of some cluster.
func (t *RegistryTokens) Authorize(r *http.Request) error {
	token, ok := Bearer(r)
	if !ok {
		return errors.New("cannot read bundles: no bearer token")
	}
	// Only digests are compared, so how long a look-up takes says nothing about any token.
	digest := sha256.Sum256([]byte(token))
	t.mu.Lock()
	defer t.mu.Unlock()
	age := time.Since(t.read)
	if age > t.life || (!t.known[digest] && age > time.Second) {
		if err := t.load(r.Context()); err != nil {
			return err
		}
	}
	if !t.known[digest] {
		return errors.New("cannot read bundles: the token is of no cluster")
	}
	return nil
}

func (t *RegistryTokens) load(ctx context.Context) error {
	var list corev1.SecretList
	if err := t.client.List(ctx, &list, client.InNamespace(v1alpha1.SystemNamespace), client.HasLabels{v1alpha1.LabelCluster}); err != nil {
		return fmt.Errorf("cannot read the clusters' tokens: %w", err)
	}
	t.known = map[[sha256.Size]byte]bool{}
	for _, s := range list.Items {
		if token := s.Data[registryTokenKey]; s.Type == v1alpha1.SecretTypeKeys && len(token) >= minTokenLength {
			t.known[sha256.Sum256(token)] = true
		}
	}
	t.read = time.Now()
	return nil
}
