package auth

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func TestServiceAccounts(t *testing.T) {
	const jwt = "eyJhbGciOi.eyJpc3MiOi.c2lnbmF0dXJl"
	bot := authenticationv1.UserInfo{Username: "system:serviceaccount:dev:bot", UID: "7", Groups: []string{"system:serviceaccounts", "system:authenticated"},
		Extra: map[string]authenticationv1.ExtraValue{"authentication.kubernetes.io/credential-id": {"JTI=1"}, "slipway.dev/user": {"admin"}}}
	cases := map[string]struct {
		reason string
		token  string
		answer authenticationv1.TokenReviewStatus
		asked  bool
		want   user.Info
	}{
		"Good": {reason: "a GitOps controller comes in, without what it may claim of itself", token: jwt, asked: true, answer: authenticationv1.TokenReviewStatus{Authenticated: true, User: bot},
			want: &user.DefaultInfo{Name: bot.Username, UID: "7", Groups: bot.Groups, Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=1"}, "slipway.dev/via": {"service-account"}}}},
		"Refused":  {reason: "the API server says no", token: jwt, asked: true},
		"Unsure":   {reason: "a name without a yes", token: jwt, asked: true, answer: authenticationv1.TokenReviewStatus{User: bot}},
		"Master":   {reason: "no other name of the API server comes in", token: jwt, asked: true, answer: authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "system:apiserver", Groups: []string{"system:masters"}}}},
		"Personal": {reason: "our own tokens are not shown to the API server", token: "slp_aaaaaaaaaaaaaaaa_" + strings.Repeat("A", 52)},
		"Opaque":   {reason: "nor is the API server's own", token: "3b9a0a5e-5f6c-4a39-9a2e-0c5d7d0b6a11"},
		"Huge":     {reason: "nor what is too long", token: "eyJ." + strings.Repeat("a", 10000) + ".b"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			asked := false
			w := newWorldWith(t, interceptor.Funcs{Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
				asked = true
				review := o.(*authenticationv1.TokenReview)
				if review.Spec.Token != tc.token {
					t.Errorf("asked about %q", review.Spec.Token)
				}
				review.Status = tc.answer
				return nil
			}})
			who, ok, err := NewServiceAccounts(w.client).Authenticate(withBearer(tc.token))
			if err != nil || ok != (tc.want != nil) || asked != tc.asked {
				t.Fatalf("%s: %v, %v, asked %v", tc.reason, ok, err, asked)
			}
			if tc.want != nil {
				if diff := cmp.Diff(tc.want, who); diff != "" {
					t.Errorf("%s:\n%s", tc.reason, diff)
				}
			}
		})
	}
}
