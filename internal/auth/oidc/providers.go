package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

const (
	// SecretKey is the key of the client's secret in the Secret that the setting names.
	SecretKey = "clientSecret"
	// discoveryLife is how long a discovery document is believed.
	discoveryLife = time.Hour
	// failureLife is how long a failed discovery is not repeated: anyone may ask for one.
	failureLife = 5 * time.Second
)

// ErrNone says that Setting login has no provider.
var ErrNone = errors.New("logging in with the directory is not set up on this server")

// Providers gives the provider that Setting login names.
type Providers struct {
	client client.Reader

	mu    sync.Mutex
	key   [32]byte
	found *Provider
	err   error
	until time.Time
}

// NewProviders reads Setting login and the Secret that it names through c, at every login.
func NewProviders(c client.Reader) *Providers { return &Providers{client: c} }

// Current gives the provider of the setting as it is now; it asks for the discovery document when the setting or the
// secret has changed, and once an hour. It fails with ErrNone when there is no provider.
func (s *Providers) Current(ctx context.Context) (*Provider, error) {
	setting, secret, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(struct {
		Setting *v1alpha1.OIDCSetting
		Secret  string
	}{setting, secret})
	if err != nil {
		return nil, fmt.Errorf("cannot read Setting login: %w", err)
	}
	key := sha256.Sum256(encoded)
	// Whoever comes meanwhile waits for the same answer, for answerTime at most.
	s.mu.Lock()
	defer s.mu.Unlock()
	if key == s.key && time.Now().Before(s.until) {
		return s.found, s.err
	}
	found, err := discover(ctx, *setting, secret)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s.key, s.found, s.err, s.until = key, found, err, time.Now().Add(failureLife)
	if err == nil {
		found.key = key
		s.until = time.Now().Add(discoveryLife)
	}
	return s.found, s.err
}

func (s *Providers) read(ctx context.Context) (*v1alpha1.OIDCSetting, string, error) {
	var setting v1alpha1.Setting
	err := s.client.Get(ctx, client.ObjectKey{Name: v1alpha1.SettingLogin}, &setting)
	if apierrors.IsNotFound(err) || (err == nil && (setting.Spec.Login == nil || setting.Spec.Login.OIDC == nil)) {
		return nil, "", ErrNone
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot read Setting login: %w", err)
	}
	o := setting.Spec.Login.OIDC
	if o.ClientSecretName == "" {
		return o, "", nil
	}
	var secret corev1.Secret
	if err := s.client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: o.ClientSecretName}, &secret); err != nil {
		return nil, "", fmt.Errorf("cannot read the client secret of the directory: %w", err)
	}
	// The setting must not make the server send a secret of another kind to the provider.
	if secret.Type != v1alpha1.SecretTypeCredential || len(secret.Data[SecretKey]) == 0 {
		return nil, "", fmt.Errorf("cannot read the client secret of the directory: Secret %s is not of type %s with key %s",
			o.ClientSecretName, v1alpha1.SecretTypeCredential, SecretKey)
	}
	return o, string(secret.Data[SecretKey]), nil
}
