package kubeadm

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/step"
)

// tokenLife is how long a join may use the token, tokenRest how much of that a join must find.
const tokenLife, tokenRest = 2 * time.Hour, 30 * time.Minute

// nodeTokenGroup is kubeadm's: the rights of a joining node are bound to it.
const nodeTokenGroup = "system:bootstrappers:kubeadm:default-node-token"

// JoinToken lets hosts join a cluster that runs: it puts the bootstrap token back, which Kubernetes drops after two hours.
// It needs no command on any host.
type JoinToken struct {
	// Token is the bootstrap token.
	Token step.SecretRef `json:"token"`
}

// ID is stored in plans.
func (JoinToken) ID() step.ID { return "kubeadm.join-token/v1" }

// Needs tells what must be there.
func (JoinToken) Needs() []step.Output { return []step.Output{step.API} }

// Gives tells what later steps find.
func (JoinToken) Gives() []step.Output { return []step.Output{step.JoinInformation} }

// Check looks for the token and how long it is good.
func (j JoinToken) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	id, _, err := j.read(ctx, r.Secrets)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	var have corev1.Secret
	name := bootstrapapi.BootstrapTokenSecretPrefix + id
	found, err := get(ctx, r.Cluster, metav1.NamespaceSystem, name, &have)
	if err != nil {
		return nil, err
	}
	ends, err := time.Parse(time.RFC3339, string(have.Data[bootstrapapi.BootstrapTokenExpirationKey]))
	if !found || err != nil || time.Until(ends) < tokenRest {
		drift.Want("Secret kube-system/"+name, "absent or about to expire", "valid for "+tokenLife.String())
	}
	return drift, nil
}

// Apply stores the token again.
func (j JoinToken) Apply(ctx context.Context, w step.Writer) error {
	id, secret, err := j.read(ctx, w.Secrets)
	if err != nil {
		return err
	}
	token := corev1ac.Secret(bootstrapapi.BootstrapTokenSecretPrefix+id, metav1.NamespaceSystem).
		WithType(corev1.SecretTypeBootstrapToken).
		WithData(map[string][]byte{
			bootstrapapi.BootstrapTokenIDKey:               []byte(id),
			bootstrapapi.BootstrapTokenSecretKey:           []byte(secret),
			bootstrapapi.BootstrapTokenExpirationKey:       []byte(time.Now().Add(tokenLife).UTC().Format(time.RFC3339)),
			bootstrapapi.BootstrapTokenUsageSigningKey:     []byte("true"),
			bootstrapapi.BootstrapTokenUsageAuthentication: []byte("true"),
			bootstrapapi.BootstrapTokenExtraGroupsKey:      []byte(nodeTokenGroup),
		})
	if err := w.Cluster.Apply(ctx, token, client.FieldOwner("slipway"), client.ForceOwnership); err != nil {
		return fmt.Errorf("cannot store the bootstrap token: %w", err)
	}
	return nil
}

func (j JoinToken) read(ctx context.Context, secrets step.Secrets) (id, secret string, err error) {
	token, err := secrets.Secret(ctx, j.Token)
	if err != nil {
		return "", "", fmt.Errorf("cannot read the bootstrap token: %w", err)
	}
	id, secret, _ = strings.Cut(string(token), ".")
	return id, secret, nil
}
