package login

import (
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/gateway"
)

// changePassword lets a person choose a new password. It ends everything else that the person is logged in with, and
// the session too: the answer brings a new one.
func (h handler) changePassword(w http.ResponseWriter, r *http.Request) error {
	var asked struct{ Current, New string }
	if err := read(w, r, &asked); err != nil {
		return err
	}
	who, _ := gateway.UserOf(r.Context())
	name := auth.UserName(who)
	if name == "" {
		return apierrors.NewBadRequest(who.GetName() + " has no password")
	}
	u, err := h.Accounts.User(r.Context(), name)
	if err != nil {
		return err
	}
	if u.Spec.Directory != nil {
		return apierrors.NewBadRequest("your password is kept by the organisation's directory; change it there")
	}
	from := gateway.ClientIP(r)
	if _, err := h.Accounts.Check(r.Context(), name, asked.Current, from); err != nil {
		if apierrors.IsUnauthorized(err) {
			// 401 would say that the session is over.
			return refused("the current password is wrong")
		}
		return err
	}
	if asked.New == asked.Current {
		return apierrors.NewBadRequest("choose another password than the one you have")
	}
	kind, id := auth.Via(who)
	keep := ""
	if kind == "token" {
		keep = id
	}
	if err := h.Accounts.SetPassword(r.Context(), u, asked.New, false, keep); err != nil {
		return err
	}
	if kind == "session" {
		session, err := h.Sessions.Open(r.Context(), u, nil, auth.Origin{From: from})
		if err != nil {
			return err
		}
		http.SetCookie(w, session.Cookie())
	}
	return nothing(w)
}

// setPassword gives another person's local account a password, which that person must change.
func (h handler) setPassword(w http.ResponseWriter, r *http.Request) error {
	var asked struct {
		Password   string
		MustChange *bool
	}
	name := r.PathValue("name")
	who, _ := gateway.UserOf(r.Context())
	if name == v1alpha1.AdminUser && who.GetName() != v1alpha1.AdminUser {
		return refused("only admin may set the password of admin")
	}
	if err := read(w, r, &asked); err != nil {
		return err
	}
	u, err := h.Accounts.User(r.Context(), name)
	if err != nil {
		return err
	}
	keep := ""
	if kind, id := auth.Via(who); kind == "token" && auth.UserName(who) == name {
		keep = id
	}
	if err := h.Accounts.SetPassword(r.Context(), u, asked.Password, asked.MustChange == nil || *asked.MustChange, keep); err != nil {
		return err
	}
	return nothing(w)
}

func refused(message string) error {
	err := apierrors.NewForbidden(schema.GroupResource{}, "", nil)
	err.ErrStatus.Message = message
	return err
}
