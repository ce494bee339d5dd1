// Package auth says who a request is from. It owns the credentials of people and turns one into a user with
// groups; what that user may do is for RBAC to say, never for this package.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/secret"
)

// minTokenLength refuses a cluster's token that someone replaced by a word.
const minTokenLength = 32

// AdminToken is the one credential of a fresh installation: a random token that stands for the user admin in
// the group system:masters.
type AdminToken struct {
	token  string
	digest [sha256.Size]byte
}

// LoadAdminToken gives the admin token kept in dataDir/admin.token (mode 600), minting 256 random bits at the
// first start.
func LoadAdminToken(dataDir string) (*AdminToken, error) {
	path := filepath.Join(dataDir, adminTokenFile)
	content, err := pki.LoadOrCreate(path, func() ([]byte, error) { return []byte(pki.NewToken() + "\n"), nil })
	if err != nil {
		return nil, fmt.Errorf("cannot load admin token: %w", err)
	}
	token := strings.TrimSpace(string(content))
	if err := secret.CheckKey([]byte(token)); err != nil {
		return nil, fmt.Errorf("cannot use the admin token in %s: %w; stop the server and run `slipway server rotate-admin-token`", path, err)
	}
	return &AdminToken{token: token, digest: sha256.Sum256([]byte(token))}, nil
}

// Token gives the secret itself, for the admin kubeconfig.
func (a *AdminToken) Token() string { return a.token }

// mark tells this admin token from another, and nothing else about it.
func (a *AdminToken) mark() string {
	digest := sha256.Sum256(a.digest[:])
	return hex.EncodeToString(digest[:8])
}

// Authenticate gives the admin when the request bears the token, and false when it bears none or another.
// It takes the same time for every wrong token.
func (a *AdminToken) Authenticate(request *http.Request) (user.Info, bool, error) {
	token, ok := Bearer(request)
	if !ok {
		return nil, false, nil
	}
	digest := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(digest[:], a.digest[:]) != 1 {
		return nil, false, nil
	}
	return &user.DefaultInfo{
		Name: v1alpha1.AdminUser, Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated},
		Extra: map[string][]string{ViaKey: {viaAdminToken}, UserKey: {v1alpha1.AdminUser}, adminMarkKey: {a.mark()}},
	}, true, nil
}

// Bearer gives the token of the request's Authorization header. It gives false when there is none, when it is
// not a bearer token, and when there is more than one such header.
func Bearer(request *http.Request) (string, bool) {
	headers := request.Header.Values("Authorization")
	if len(headers) != 1 {
		return "", false
	}
	scheme, token, found := strings.Cut(headers[0], " ")
	token = strings.TrimSpace(token)
	if !found || !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", false
	}
	return token, true
}
