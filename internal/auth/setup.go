package auth

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// SetupLife is how long a set-up link is valid.
const SetupLife = time.Hour

const setupSecret = "setup"

// Setup owns the first run: a link that is good for one use, by which admin gets a password. Without it nobody logs in.
type Setup struct{ accounts *Accounts }

// NewSetup gives the first run of a server with these accounts.
func NewSetup(accounts *Accounts) *Setup { return &Setup{accounts} }

// link is what is stored of a set-up link.
type link struct {
	Digest  []byte    `json:"digest"`
	Expires time.Time `json:"expires"`
}

func setupKey() client.ObjectKey {
	return client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: setupSecret}
}

// Needed says that admin has no password yet.
func (s *Setup) Needed(ctx context.Context) (bool, error) {
	has, _, err := s.accounts.PasswordState(ctx, v1alpha1.AdminUser)
	return !has, err
}

// NewLink gives the secret of a new link, in place of any earlier one, and "" when the server is set up already. Call
// it once at each start and show the secret once, to the person who started the server.
func (s *Setup) NewLink(ctx context.Context) (string, error) {
	needed, err := s.Needed(ctx)
	if err != nil {
		return "", err
	}
	c := s.accounts.Client
	if !needed {
		return "", s.end(ctx)
	}
	secret, digest := newSecret()
	content, err := json.Marshal(link{Digest: digest, Expires: time.Now().Add(SetupLife).UTC().Truncate(time.Second)})
	if err != nil {
		return "", err
	}
	object := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: setupSecret},
		Type:       v1alpha1.SecretTypeSetup,
		Data:       map[string][]byte{recordKey: content},
	}
	err = c.Create(ctx, object)
	if apierrors.IsAlreadyExists(err) {
		err = c.Update(ctx, object)
	}
	if err != nil {
		return "", fmt.Errorf("cannot store the set-up link: %w", err)
	}
	return secret, nil
}

// Use sets the password of admin by a link. Of two uses at once one wins. It fails with Gone for a link that was used,
// with Forbidden for one that is wrong or over, and with BadRequest when the policy refuses the password.
func (s *Setup) Use(ctx context.Context, secret, newPassword string) error {
	needed, err := s.Needed(ctx)
	if err != nil {
		return err
	}
	if !needed {
		return used()
	}
	if err := s.checkLink(ctx, secret); err != nil {
		return err
	}
	u, err := s.admin(ctx)
	if err != nil {
		return err
	}
	if err := s.accounts.checkNew(ctx, u, newPassword); err != nil {
		return err
	}
	content, err := s.accounts.encode(ctx, u, newPassword, false)
	if err != nil {
		return err
	}
	// This create is what only one can do.
	object := newPasswordSecret(u, content)
	err = s.accounts.Client.Create(ctx, object)
	if apierrors.IsAlreadyExists(err) {
		err = s.replaceStale(ctx, u, object)
	}
	if err != nil {
		return err
	}
	return s.end(ctx)
}

// replaceStale puts a password in the place of one that belonged to an earlier User admin, and to nobody now.
func (s *Setup) replaceStale(ctx context.Context, u *v1alpha1.User, object *corev1.Secret) error {
	var there corev1.Secret
	if err := s.accounts.Client.Get(ctx, passwordSecret(u.Name), &there); err != nil {
		return fmt.Errorf("cannot read the password of admin: %w", err)
	}
	var stored password
	if json.Unmarshal(there.Data[recordKey], &stored) == nil && stored.UID == u.UID {
		return used()
	}
	object.ResourceVersion = there.ResourceVersion
	err := s.accounts.Client.Update(ctx, object)
	if apierrors.IsConflict(err) {
		return used()
	}
	return err
}

func used() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: 410, Reason: metav1.StatusReasonGone,
		Message: "this server is set up already and the link was used; log in as admin",
	}}
}

func (s *Setup) checkLink(ctx context.Context, secret string) error {
	var object corev1.Secret
	if err := s.accounts.Client.Get(ctx, setupKey(), &object); err != nil {
		if apierrors.IsNotFound(err) {
			return forbidden("there is no set-up link; restart the server, it prints a new one")
		}
		return fmt.Errorf("cannot read the set-up link: %w", err)
	}
	var stored link
	if err := json.Unmarshal(object.Data[recordKey], &stored); err != nil || object.Type != v1alpha1.SecretTypeSetup {
		return forbidden("the stored set-up link cannot be read; restart the server, it prints a new one")
	}
	if subtle.ConstantTimeCompare(digestOf(secret), stored.Digest) != 1 {
		return forbidden("this is not the set-up link that the server printed at its last start")
	}
	if !time.Now().Before(stored.Expires) {
		return forbidden("the set-up link has expired; restart the server, it prints a new one")
	}
	return nil
}

// admin gives the User admin, made when there is none.
func (s *Setup) admin(ctx context.Context) (*v1alpha1.User, error) {
	u := &v1alpha1.User{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AdminUser},
		Spec:       v1alpha1.UserSpec{DisplayName: "Administrator", PlatformRole: v1alpha1.SystemAdministrator},
	}
	err := s.accounts.Client.Create(ctx, u)
	if apierrors.IsAlreadyExists(err) {
		err = s.accounts.Client.Get(ctx, client.ObjectKeyFromObject(u), u)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make user admin: %w", err)
	}
	return u, nil
}

func (s *Setup) end(ctx context.Context) error {
	key := setupKey()
	err := s.accounts.Client.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot end the set-up link: %w", err)
	}
	return nil
}
