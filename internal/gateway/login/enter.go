package login

import (
	"errors"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/gateway"
)

const (
	// loginTokenLife is that of a token which a program gets for a password.
	loginTokenLife = 12 * time.Hour
	loginTokenName = "slipway login"
)

// setUp sets the password of admin by the one-time link.
func (h handler) setUp(w http.ResponseWriter, r *http.Request) error {
	var asked struct{ Token, Password string }
	if err := foreign(r); err != nil {
		return err
	}
	if err := read(w, r, &asked); err != nil {
		return err
	}
	if err := h.Setup.Use(r.Context(), asked.Token, asked.Password); err != nil {
		return err
	}
	gateway.NoteActor(r.Context(), v1alpha1.AdminUser)
	return nothing(w)
}

// entered is the answer to a login.
type entered struct {
	Identity string `json:"identity"`
	// MustChange says that the session may only change the password.
	MustChange bool `json:"mustChange,omitempty"`
	// Expires is when the session or the token ends at the latest.
	Expires time.Time `json:"expires"`
	// ID and Token are set when a token was asked for.
	ID    string `json:"id,omitempty"`
	Token string `json:"token,omitempty"`
}

// login turns a password into a session, or into a token for a program.
func (h handler) login(w http.ResponseWriter, r *http.Request) error {
	var asked struct {
		User, Password string
		Token          bool
		Name           string
		ExpiresInHours float64
	}
	if err := foreign(r); err != nil {
		return err
	}
	if err := read(w, r, &asked); err != nil {
		return err
	}
	from := gateway.ClientIP(r)
	gateway.Note(r.Context(), "user", noteName(asked.User))
	proof, err := h.Accounts.Check(r.Context(), asked.User, asked.Password, from)
	if err != nil {
		return err
	}
	gateway.NoteActor(r.Context(), proof.User.Identity())
	if asked.Token {
		return h.loginToken(w, r, proof, auth.TokenRequest{Name: asked.Name, Life: hours(asked.ExpiresInHours), From: from})
	}
	session, err := h.Sessions.Open(r.Context(), proof.User, nil, auth.Origin{From: from, MustChange: proof.MustChange})
	if err != nil {
		return err
	}
	if err := h.Accounts.StillHolds(r.Context(), proof); err != nil {
		return errors.Join(err, h.Sessions.Drop(r.Context(), session.ID))
	}
	if err := h.leaveSession(r); err != nil {
		return err
	}
	http.SetCookie(w, session.Cookie())
	return gateway.WriteJSON(w, entered{Identity: proof.User.Identity(), MustChange: proof.MustChange, Expires: session.Expires, ID: session.ID})
}

func (h handler) loginToken(w http.ResponseWriter, r *http.Request, proof *auth.Proof, request auth.TokenRequest) error {
	if proof.MustChange {
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: auth.ReasonPasswordMustChange,
			Message: "change your password first: slipway login asks for a new one on a terminal, or open /slipway/login",
		}}
	}
	if request.Name == "" {
		request.Name = loginTokenName
	}
	if request.Life == 0 {
		request.Life, request.Narrow = loginTokenLife, true
	}
	token, err := h.Tokens.Login(r.Context(), proof.User, nil, request)
	if err != nil {
		return err
	}
	if err := h.Accounts.StillHolds(r.Context(), proof); err != nil {
		return errors.Join(err, h.Tokens.Drop(r.Context(), token.ID))
	}
	return gateway.WriteJSON(w, entered{Identity: proof.User.Identity(), Expires: token.Expires, ID: token.ID, Token: token.Secret})
}

// leaveSession ends the session that a new one takes the place of in the same browser.
func (h handler) leaveSession(r *http.Request) error {
	who, known := gateway.UserOf(r.Context())
	if !known {
		return nil
	}
	if kind, id := auth.Via(who); kind == "session" {
		if err := h.Sessions.End(r.Context(), who, id); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// logout ends what the person came in with: the session, or the token.
func (h handler) logout(w http.ResponseWriter, r *http.Request) error {
	who, _ := gateway.UserOf(r.Context())
	kind, id := auth.Via(who)
	var err error
	switch kind {
	case "session":
		err = h.Sessions.End(r.Context(), who, id)
		http.SetCookie(w, auth.NoCookie())
	case "token":
		err = h.Tokens.Revoke(r.Context(), who, id)
	default:
		return apierrors.NewBadRequest("only sessions and personal tokens can log out; this credential is kept elsewhere")
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return nothing(w)
}

// hours turns a number of hours of a body into a time; one that makes no sense becomes one that is refused.
func hours(n float64) time.Duration {
	const most = 10 * 366 * 24
	if n < 0 {
		return -1
	}
	return time.Duration(min(n, most) * float64(time.Hour))
}

// noteName keeps what cannot be a name out of the audit log: it may be a password in the wrong field.
func noteName(name string) string {
	if !auth.ValidName(name) {
		return "(not a name)"
	}
	return name
}
