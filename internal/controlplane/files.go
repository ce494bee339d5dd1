package controlplane

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/internal/pki"
)

// files are the paths the API server reads: the keys of this installation and its policies.
type files struct {
	runDir            string
	serviceAccountKey string
	encryption        string
	auditPolicy       string
	auditLog          string
}

// loadFiles gives the files of this installation, minting its keys at the first start. The keys lie outside
// the store's directory, so that a copy of the store alone does not open its Secrets.
func loadFiles(directory string) (files, error) {
	f := files{
		runDir:            filepath.Join(directory, "run"),
		serviceAccountKey: filepath.Join(directory, "keys", "service-account.key"),
		encryption:        filepath.Join(directory, "keys", "encryption.yaml"),
		auditPolicy:       filepath.Join(directory, "run", "audit-policy.yaml"),
		auditLog:          filepath.Join(directory, "audit", "audit.log"),
	}
	for _, path := range []string{f.runDir, filepath.Dir(f.auditLog)} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return files{}, fmt.Errorf("cannot create %s: %w", path, err)
		}
	}
	if _, err := pki.LoadOrCreate(f.serviceAccountKey, func() ([]byte, error) {
		private, _, err := pki.NewServiceAccountKey()
		return private, err
	}); err != nil {
		return files{}, err
	}
	if _, err := pki.LoadOrCreate(f.encryption, newEncryption); err != nil {
		return files{}, err
	}
	policy, err := yaml.Marshal(auditPolicy())
	if err != nil {
		return files{}, fmt.Errorf("cannot write audit policy: %w", err)
	}
	return f, pki.WriteFile(f.auditPolicy, policy, 0o600)
}

// newEncryption says that Secrets are stored encrypted, with a key made here and now. There is no fallback to
// plain text: what is not encrypted cannot be read.
func newEncryption() ([]byte, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("cannot mint encryption key: %w", err)
	}
	return yaml.Marshal(apiserverv1.EncryptionConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: apiserverv1.SchemeGroupVersion.String(), Kind: "EncryptionConfiguration"},
		Resources: []apiserverv1.ResourceConfiguration{{
			Resources: []string{"secrets"},
			Providers: []apiserverv1.ProviderConfiguration{{
				Secretbox: &apiserverv1.SecretboxConfiguration{
					Keys: []apiserverv1.Key{{Name: "key1", Secret: base64.StdEncoding.EncodeToString(key)}},
				},
			}},
		}},
	})
}

// auditPolicy records who did what, never the content. What this process reads for itself, its leases, events
// and status writes are left out: they would drown what people do.
func auditPolicy() auditv1.Policy {
	self := []string{user.APIServerUser}
	return auditv1.Policy{
		TypeMeta:   metav1.TypeMeta{APIVersion: auditv1.SchemeGroupVersion.String(), Kind: "Policy"},
		OmitStages: []auditv1.Stage{auditv1.StageRequestReceived},
		Rules: []auditv1.PolicyRule{
			{Level: auditv1.LevelNone, NonResourceURLs: []string{"/livez*", "/readyz*", "/healthz*", "/version", "/openapi*", "/api", "/apis*", "/api/*"}},
			{Level: auditv1.LevelNone, Users: self, Verbs: []string{"get", "list", "watch"}},
			{Level: auditv1.LevelNone, Users: self, Resources: []auditv1.GroupResources{
				{Group: "coordination.k8s.io"}, {Group: "events.k8s.io"}, {Resources: []string{"events"}}, {Group: "*", Resources: []string{"*/status"}},
			}},
			{Level: auditv1.LevelMetadata},
		},
	}
}
