package auth

import (
	"fmt"
	"net/http"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	serviceAccountPrefix = "system:serviceaccount:"
	// maxJWT is longer than any token that the API server signs.
	maxJWT = 8 << 10
)

// ServiceAccounts lets programs in that bear a token of a service account of the platform's API, such as a GitOps
// controller. It asks the API server, which alone knows its signing key.
type ServiceAccounts struct{ client client.Client }

// NewServiceAccounts asks through the client, which must be allowed to create TokenReviews.
func NewServiceAccounts(c client.Client) *ServiceAccounts { return &ServiceAccounts{c} }

// Authenticate gives the service account whose token the request bears.
func (s *ServiceAccounts) Authenticate(r *http.Request) (user.Info, bool, error) {
	token, ok := Bearer(r)
	// Whoever knows no token must not make the API server work: anything that is no JWT goes no further.
	if !ok || len(token) > maxJWT || strings.Count(token, ".") != 2 || !strings.HasPrefix(token, "ey") {
		return nil, false, nil
	}
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	if err := s.client.Create(r.Context(), review); err != nil {
		return nil, false, fmt.Errorf("cannot check a service account's token: %w", err)
	}
	who := review.Status.User
	// Other names that the API server may know, such as its own, are not for people outside.
	if !review.Status.Authenticated || !strings.HasPrefix(who.Username, serviceAccountPrefix) {
		return nil, false, nil
	}
	extra := map[string][]string{}
	for k, v := range who.Extra {
		if !strings.Contains(k, "slipway.dev/") {
			extra[k] = v
		}
	}
	extra[ViaKey] = []string{viaServiceAccount}
	return &user.DefaultInfo{Name: who.Username, UID: who.UID, Groups: who.Groups, Extra: extra}, true, nil
}
