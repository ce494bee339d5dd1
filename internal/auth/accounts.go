package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// passwordPrefix begins the name of the Secret that holds a password's hash.
const passwordPrefix = "password-"

// AccountsConfig is what local accounts work with.
type AccountsConfig struct {
	// Client acts as Slipway itself and reads live.
	Client   client.Client
	Sessions *Sessions
	Tokens   *Tokens
	// Argon2 are the parameters of new hashes; zero means those of RFC 9106.
	Argon2 Argon2
	// Log receives what goes wrong beside an answer; nil means silence.
	Log *slog.Logger
}

// Accounts owns the passwords of local accounts. It is safe for concurrent use.
type Accounts struct {
	AccountsConfig
	hasher  *hasher
	decoy   string
	lockout *lockout
}

// NewAccounts gives the local accounts.
func NewAccounts(config AccountsConfig) *Accounts {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	h := newHasher(config.Argon2)
	return &Accounts{AccountsConfig: config, hasher: h, decoy: h.decoy(), lockout: newLockout()}
}

// password is what is stored of a password.
type password struct {
	UID types.UID `json:"uid"`
	// Version changes with the password, not when its hash is made anew.
	Version    string    `json:"version"`
	Hash       string    `json:"hash"`
	MustChange bool      `json:"mustChange,omitempty"`
	Changed    time.Time `json:"changed"`
}

// Proof says that a person has shown a right password.
type Proof struct {
	User *v1alpha1.User
	// MustChange says that the person has to choose another password before anything else.
	MustChange bool

	version string
}

// wrong is the one answer to everything that is wrong with a name or a password.
func wrong() error { return apierrors.NewUnauthorized("wrong user name or password") }

// Check looks whether it is the person's password, and takes as long for a user that does not exist. It fails with an
// Unauthorized error when it is not, with TooManyRequests for who guesses, and with Forbidden for a disabled user.
func (a *Accounts) Check(ctx context.Context, name, secret, from string) (*Proof, error) {
	if !ValidName(name) || len(secret) > maxPassword {
		// All that cannot be a name counts as one.
		name, secret = "", ""
	}
	end, err := a.lockout.begin(ctx, name, from)
	if err != nil {
		return nil, err
	}
	proof, err := a.check(ctx, name, secret)
	right := err == nil
	switch {
	case right, apierrors.IsUnauthorized(err):
		end(&right)
	default:
		end(nil)
	}
	if err != nil {
		return nil, err
	}
	return proof, mayLogIn(proof.User)
}

func (a *Accounts) check(ctx context.Context, name, secret string) (*Proof, error) {
	u, stored, object, err := a.read(ctx, name)
	if err != nil {
		return nil, err
	}
	hash := a.decoy
	if stored != nil {
		hash = stored.Hash
	}
	right, outdated, err := a.hasher.verify(ctx, secret, hash)
	if err != nil {
		return nil, err
	}
	if !right || stored == nil {
		return nil, wrong()
	}
	if outdated {
		if err := a.upgrade(ctx, secret, stored, object); err != nil {
			// The old hash still stands; the next login tries again.
			a.Log.WarnContext(ctx, "cannot renew a password hash", "user", name, "err", err)
		}
	}
	return &Proof{User: u, MustChange: stored.MustChange, version: stored.Version}, nil
}

// read gives a local account and its password; without the one or the other, no password.
func (a *Accounts) read(ctx context.Context, name string) (*v1alpha1.User, *password, *corev1.Secret, error) {
	if name == "" {
		// The same two reads, of what cannot exist.
		name = "-"
	}
	var u v1alpha1.User
	userErr := a.Client.Get(ctx, client.ObjectKey{Name: name}, &u)
	var object corev1.Secret
	passwordErr := a.Client.Get(ctx, passwordSecret(name), &object)
	if err := errors.Join(client.IgnoreNotFound(userErr), client.IgnoreNotFound(passwordErr)); err != nil {
		return nil, nil, nil, fmt.Errorf("cannot read the account of %s: %w", name, err)
	}
	if userErr != nil || passwordErr != nil || object.Type != v1alpha1.SecretTypePassword || u.Spec.Directory != nil {
		return &u, nil, &object, nil
	}
	var stored password
	if err := json.Unmarshal(object.Data[recordKey], &stored); err != nil {
		// The parser's message may quote what it read.
		return nil, nil, nil, fmt.Errorf("cannot read the password record of %s: set the password again", name)
	}
	if stored.UID != u.UID {
		return &u, nil, &object, nil
	}
	return &u, &stored, &object, nil
}

func passwordSecret(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: passwordPrefix + name}
}

// upgrade stores the hash of a right password anew, with today's parameters.
func (a *Accounts) upgrade(ctx context.Context, secret string, stored *password, object *corev1.Secret) error {
	hash, err := a.hasher.hash(ctx, secret)
	if err != nil {
		return err
	}
	stored.Hash = hash
	content, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	object.Data = map[string][]byte{recordKey: content}
	return a.Client.Update(ctx, object)
}

// StillHolds fails with an Unauthorized error when the password was changed since the proof was given: whatever was
// opened for it meanwhile must be closed again. A change ends what it finds, so one of the two sees the other.
func (a *Accounts) StillHolds(ctx context.Context, p *Proof) error {
	_, stored, _, err := a.read(ctx, p.User.Name)
	if err != nil {
		return err
	}
	if stored == nil || stored.Version != p.version {
		return apierrors.NewUnauthorized("the password was changed meanwhile; log in again")
	}
	return nil
}

// SetPassword gives a local account a new password and ends every session and token of the user but the one token to
// keep, which may be "". It fails with BadRequest when the policy refuses the password.
func (a *Accounts) SetPassword(ctx context.Context, u *v1alpha1.User, secret string, mustChange bool, keepToken string) error {
	if err := a.checkNew(ctx, u, secret); err != nil {
		return err
	}
	content, err := a.encode(ctx, u, secret, mustChange)
	if err != nil {
		return err
	}
	object := newPasswordSecret(u, content)
	err = a.Client.Create(ctx, object)
	if apierrors.IsAlreadyExists(err) {
		// The last one to set it wins, as with any password. What was there may be of an earlier user of that name.
		err = a.Client.Update(ctx, object)
	}
	if err != nil {
		return fmt.Errorf("cannot store the password of %s: %w", u.Name, err)
	}
	return errors.Join(a.Sessions.EndAll(ctx, u.Name, ""), a.Tokens.EndAll(ctx, u.Name, keepToken))
}

// checkNew says whether the user may have that password.
func (a *Accounts) checkNew(ctx context.Context, u *v1alpha1.User, secret string) error {
	if u.Spec.Directory != nil {
		return apierrors.NewBadRequest("the password of " + u.Identity() + " is kept by the organisation's directory; change it there")
	}
	login, err := LoginSetting(ctx, a.Client)
	if err != nil {
		return err
	}
	return checkPolicy(login.Password, secret, u)
}

func (a *Accounts) encode(ctx context.Context, u *v1alpha1.User, secret string, mustChange bool) ([]byte, error) {
	hash, err := a.hasher.hash(ctx, secret)
	if err != nil {
		return nil, err
	}
	return json.Marshal(password{UID: u.UID, Version: newID(), Hash: hash, MustChange: mustChange, Changed: time.Now().UTC().Truncate(time.Second)})
}

func newPasswordSecret(u *v1alpha1.User, content []byte) *corev1.Secret {
	key := passwordSecret(u.Name)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{LabelUser: u.Name},
			OwnerReferences: []metav1.OwnerReference{ownedBy(u.Name, u.UID)},
		},
		Type: v1alpha1.SecretTypePassword,
		Data: map[string][]byte{recordKey: content},
	}
}

// User gives a user by the name of the object.
func (a *Accounts) User(ctx context.Context, name string) (*v1alpha1.User, error) {
	var u v1alpha1.User
	if name == "" {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: v1alpha1.Group, Resource: "users"}, name)
	}
	if err := a.Client.Get(ctx, client.ObjectKey{Name: name}, &u); err != nil {
		return nil, err
	}
	return &u, nil
}

// PasswordState says whether a local account has a password, and whether the person must change it.
func (a *Accounts) PasswordState(ctx context.Context, name string) (has, mustChange bool, err error) {
	_, stored, _, err := a.read(ctx, name)
	if err != nil || stored == nil {
		return false, false, err
	}
	return true, stored.MustChange, nil
}
