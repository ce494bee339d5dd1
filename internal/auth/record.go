package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/pki"
)

// LabelUser is on every Secret of a session, a token and a password, and names the User.
const LabelUser = "slipway.dev/user"

const (
	// recordKey is the key of a Secret under which its record is, as JSON.
	recordKey = "record"
	idLength  = 16
	// secretLength is that of pki.NewToken.
	secretLength = 52
)

// record is what is stored of a session or a token: never the secret itself.
type record struct {
	User string    `json:"user"`
	UID  types.UID `json:"uid,omitempty"`
	// Server is the mark of the admin token of the data directory, when that made it, perhaps before there was any User.
	Server string `json:"server,omitempty"`
	// Digest is the SHA-256 of the secret.
	Digest  []byte    `json:"digest"`
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires"`
	// From is the address of the client that logged in.
	From string `json:"from,omitempty"`
	// Groups are those the directory gave at login, without prefix.
	Groups []string `json:"groups,omitempty"`

	// Seen and IdleUntil are of sessions.
	Seen       *time.Time `json:"seen,omitempty"`
	IdleUntil  *time.Time `json:"idleUntil,omitempty"`
	MustChange bool       `json:"mustChange,omitempty"`

	// Name and Scope are of tokens.
	Name  string `json:"name,omitempty"`
	Scope Scope  `json:"scope,omitzero"`
}

// live says that neither end has come.
func (r *record) live(now time.Time) bool {
	return now.Before(r.Expires) && (r.IdleUntil == nil || now.Before(*r.IdleUntil))
}

// newID gives 80 random bits that may be shown, as a name of an object can hold them.
func newID() string { return strings.ToLower(rand.Text()[:idLength]) }

// newSecret gives 256 random bits and their digest.
func newSecret() (string, []byte) {
	secret := pki.NewToken()
	return secret, digestOf(secret)
}

func digestOf(secret string) []byte {
	digest := sha256.Sum256([]byte(secret))
	return digest[:]
}

// validID keeps whatever a client sends from becoming a part of another name.
func validID(id string) bool {
	return len(id) == idLength && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// store keeps records of one type in Secrets that are named PREFIX-ID.
type store struct {
	client     client.Client
	secretType corev1.SecretType
	prefix     string
}

func (s store) key(id string) client.ObjectKey {
	return client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: s.prefix + id}
}

// create stores a record under a new ID. The garbage collector deletes it with the User.
func (s store) create(ctx context.Context, r *record) (string, error) {
	id := newID()
	content, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: s.prefix + id, Labels: map[string]string{LabelUser: r.User}},
		Type:       s.secretType,
		Data:       map[string][]byte{recordKey: content},
	}
	if r.UID != "" {
		secret.OwnerReferences = []metav1.OwnerReference{ownedBy(r.User, r.UID)}
	}
	if err := s.client.Create(ctx, secret); err != nil {
		return "", err
	}
	return id, nil
}

func ownedBy(name string, uid types.UID) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion().String(), Kind: "User", Name: name, UID: uid}
}

// find gives the live record with that ID whose secret it is, and nil when there is none.
func (s store) find(ctx context.Context, id, secret string) (*record, *corev1.Secret, error) {
	if !validID(id) || len(secret) != secretLength {
		return nil, nil, nil
	}
	r, object, err := s.read(ctx, id)
	if err != nil || r == nil {
		return nil, nil, err
	}
	if subtle.ConstantTimeCompare(digestOf(secret), r.Digest) != 1 || !r.live(time.Now()) {
		return nil, nil, nil
	}
	return r, object, nil
}

// read gives a record by its ID, live or not, and nil when there is none.
func (s store) read(ctx context.Context, id string) (*record, *corev1.Secret, error) {
	if !validID(id) {
		return nil, nil, nil
	}
	var object corev1.Secret
	if err := s.client.Get(ctx, s.key(id), &object); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil, nil
		}
		return nil, nil, fmt.Errorf("cannot read %s%s: %w", s.prefix, id, err)
	}
	r, err := s.decode(&object)
	return r, &object, err
}

// decode gives nil for a Secret that is not a record of this store.
func (s store) decode(object *corev1.Secret) (*record, error) {
	if object.Type != s.secretType || object.DeletionTimestamp != nil {
		return nil, nil
	}
	var r record
	if err := json.Unmarshal(object.Data[recordKey], &r); err != nil {
		// The parser's message may quote what it read.
		return nil, fmt.Errorf("cannot read %s: it is no record", object.Name)
	}
	return &r, nil
}

// entry is a record with its ID.
type entry struct {
	id string
	*record
}

// of gives the records of a User, live or not, those of an earlier User of the same name left out.
func (s store) of(ctx context.Context, userName string, uid types.UID) ([]entry, error) {
	all, err := s.list(ctx, client.MatchingLabels{LabelUser: userName})
	if err != nil {
		return nil, err
	}
	var own []entry
	for _, e := range all {
		if e.User == userName && (e.UID == uid || e.Server != "") {
			own = append(own, e)
		}
	}
	return own, nil
}

func (s store) list(ctx context.Context, which client.ListOption) ([]entry, error) {
	var secrets corev1.SecretList
	if err := s.client.List(ctx, &secrets, client.InNamespace(v1alpha1.SystemNamespace), which); err != nil {
		return nil, fmt.Errorf("cannot list what people are logged in with: %w", err)
	}
	var all []entry
	for i := range secrets.Items {
		id, ours := strings.CutPrefix(secrets.Items[i].Name, s.prefix)
		if !ours {
			continue
		}
		r, err := s.decode(&secrets.Items[i])
		if err != nil {
			return nil, err
		}
		if r != nil {
			all = append(all, entry{id, r})
		}
	}
	return all, nil
}

// delete ends a record; one that is gone is fine.
func (s store) delete(ctx context.Context, id string) error {
	err := s.client.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: s.prefix + id}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot end %s%s: %w", s.prefix, id, err)
	}
	return nil
}

// endAll deletes every record of a User name but the one to keep.
func (s store) endAll(ctx context.Context, userName, keep string) error {
	all, err := s.list(ctx, client.MatchingLabels{LabelUser: userName})
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range all {
		if e.id != keep {
			errs = append(errs, s.delete(ctx, e.id))
		}
	}
	return errors.Join(errs...)
}
