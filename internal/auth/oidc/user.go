package oidc

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// maxUserName is the longest name of a User.
const maxUserName = 40

// UserName gives the name of the User that stands for a person of the directory.
func UserName(issuer, subject string) string {
	digest := sha256.Sum256([]byte(issuer + "\n" + subject))
	return ("oidc-" + hex.EncodeToString(digest[:]))[:maxUserName]
}

// Admit gives the User of a person, made at the first login and brought up to date at each later one. The person keeps
// the username of the first login: roles were given to that name. It gives a *Refused error for a disabled User, and
// when the username is that of another person. c must read the API itself, past every cache.
func Admit(ctx context.Context, c client.Client, p Person) (*v1alpha1.User, error) {
	known := &v1alpha1.User{}
	name := UserName(p.Issuer, p.Subject)
	err := c.Get(ctx, client.ObjectKey{Name: name}, known)
	made := apierrors.IsNotFound(err)
	if made {
		known, err = create(ctx, c, name, p)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find User %s: %w", name, err)
	}
	if d := known.Spec.Directory; d == nil || d.Issuer != p.Issuer || d.Subject != p.Subject {
		return nil, refuse("User %s is not the one the directory names; an administrator must delete it", name)
	}
	if err := checkHolder(ctx, c, known, made); err != nil {
		return nil, err
	}
	if known.Spec.Disabled {
		return nil, refuse("this account is disabled; ask an administrator")
	}
	before := known.DeepCopy()
	known.Spec.Email = cmp.Or(p.Email, known.Spec.Email)
	known.Spec.DisplayName = cmp.Or(p.DisplayName, known.Spec.DisplayName)
	if known.Spec.Email == before.Spec.Email && known.Spec.DisplayName == before.Spec.DisplayName {
		return known, nil
	}
	if err := c.Patch(ctx, known, client.MergeFrom(before)); err != nil {
		return nil, fmt.Errorf("cannot update User %s: %w", name, err)
	}
	return known, nil
}

func create(ctx context.Context, c client.Client, name string, p Person) (*v1alpha1.User, error) {
	u := &v1alpha1.User{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.UserSpec{
			Email: p.Email, DisplayName: p.DisplayName,
			Directory: &v1alpha1.DirectoryIdentity{Issuer: p.Issuer, Subject: p.Subject, Username: p.Username},
		},
	}
	return u, c.Create(ctx, u)
}

// checkHolder refuses a person whose username is held by another: RBAC knows people by it. It looks after the create,
// so that of two new people who come at once, on two servers even, at most one gets the name; who was made first keeps it.
func checkHolder(ctx context.Context, c client.Client, u *v1alpha1.User, made bool) error {
	var all v1alpha1.UserList
	if err := c.List(ctx, &all); err != nil {
		return fmt.Errorf("cannot list Users: %w", err)
	}
	for _, other := range all.Items {
		d := other.Spec.Directory
		if other.Name == u.Name || d == nil || d.Username != u.Spec.Directory.Username || (!made && elder(u, &other)) {
			continue
		}
		if made {
			// Only the object that this login made: its UID says so.
			if err := c.Delete(ctx, u, client.Preconditions{UID: &u.UID}); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("cannot take back User %s: %w", u.Name, err)
			}
		}
		return refuse("the username %s belongs to another person of the directory (User %s); when that person has left, "+
			"an administrator removes them from projects and deletes that User", d.Username, other.Name)
	}
	return nil
}

func elder(a, b *v1alpha1.User) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Name < b.Name
}
