package login

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/auth/oidc"
	"slipway.dev/slipway/internal/gateway"
	"slipway.dev/slipway/internal/pki"
)

const (
	oidcCallback = "/slipway/v1/oidc/callback"
	// afterLogin is where a browser goes that is logged in.
	afterLogin = "/slipway/login"
	// oidcCookie binds a login to the browser that began it.
	oidcCookie = "__Host-slipway-oidc"
)

// OIDCDeps is what logging in with the directory works with.
type OIDCDeps struct {
	// Client acts as Slipway itself, past every cache.
	Client   client.Client
	Sessions *auth.Sessions
	Tokens   *auth.Tokens
	// Log receives why a login failed; nil means silence.
	Log *slog.Logger
}

// OIDCRoutes gives the routes by which people of the organisation's directory log in. Logins that are on their way are
// kept in memory: where several servers stand behind one address, a browser must come back to the one it began at.
func OIDCRoutes(d OIDCDeps) []gateway.Route {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	o := &directoryLogin{
		OIDCDeps: d, providers: oidc.NewProviders(d.Client),
		begun: newPending[begun](pendingTime), codes: newPending[admitted](codeTime),
	}
	return []gateway.Route{
		{Method: http.MethodGet, Path: "/slipway/v1/oidc/start", Rule: gateway.Rule{Open: true}, Serve: o.start},
		{Method: http.MethodGet, Path: oidcCallback, Rule: gateway.Rule{Open: true}, Verb: "login", Serve: o.callback},
		{Method: http.MethodPost, Path: "/slipway/v1/oidc/exchange", Rule: gateway.Rule{Open: true}, Verb: "login", Serve: o.exchange},
	}
}

type directoryLogin struct {
	OIDCDeps
	providers *oidc.Providers
	begun     *pending[begun]
	codes     *pending[admitted]
}

// begun is a login whose browser is at the provider.
type begun struct {
	flow oidc.Flow
	// browser is the digest of the cookie.
	browser [sha256.Size]byte
	program program
}

// program is a command line that waits on the person's machine; without a port there is none.
type program struct {
	port int
	// challenge is the SHA-256 of the verifier that the program keeps, in base64url: only who has that can redeem a code.
	challenge string
}

// admitted is a person for whom a program is about to redeem a code.
type admitted struct {
	user      *v1alpha1.User
	groups    []string
	challenge string
}

// start sends a browser to the provider.
func (o *directoryLogin) start(w http.ResponseWriter, r *http.Request) error {
	waiting, err := programOf(r.URL.Query())
	if err != nil {
		return o.fail(w, r, err)
	}
	provider, err := o.providers.Current(r.Context())
	if err != nil {
		return o.fail(w, r, err)
	}
	// The provider sends browsers only to addresses that are registered with it, so a strange Host leads nowhere.
	address, flow := provider.Begin("https://" + r.Host + oidcCallback)
	browser := pki.NewToken()
	o.begun.put(flow.State, gateway.ClientIP(r), begun{flow: flow, browser: sha256.Sum256([]byte(browser)), program: waiting})
	http.SetCookie(w, bindingCookie(browser, int(pendingTime.Seconds())))
	return sendTo(w, r, address)
}

func programOf(q url.Values) (program, error) {
	if !q.Has("cli") && !q.Has("challenge") {
		return program{}, nil
	}
	port, err := strconv.Atoi(q.Get("cli"))
	if err != nil || port < 1024 || port > 65535 {
		return program{}, apierrors.NewBadRequest("cli is the port of a program on this machine, from 1024 to 65535")
	}
	digest, err := base64.RawURLEncoding.Strict().DecodeString(q.Get("challenge"))
	if err != nil || len(digest) != sha256.Size {
		return program{}, apierrors.NewBadRequest("challenge is the SHA-256 of the program's verifier, in base64url without padding")
	}
	return program{port: port, challenge: q.Get("challenge")}, nil
}

// callback is where the provider sends the browser back to.
func (o *directoryLogin) callback(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	login, known := o.begun.take(q.Get("state"))
	cookies := r.CookiesNamed(oidcCookie)
	if len(cookies) > 0 {
		http.SetCookie(w, bindingCookie("", -1))
	}
	if !known {
		return o.fail(w, r, apierrors.NewBadRequest("this login took too long, or was used already; log in again"))
	}
	if len(cookies) != 1 || !sameDigest(sha256.Sum256([]byte(cookies[0].Value)), login.browser) {
		return o.fail(w, r, apierrors.NewBadRequest("this login began in another browser or window; log in again"))
	}
	provider, err := o.providers.Current(r.Context())
	if err != nil {
		return o.fail(w, r, err)
	}
	person, err := provider.Finish(r.Context(), login.flow, q)
	if err != nil {
		return o.fail(w, r, err)
	}
	gateway.NoteActor(r.Context(), v1alpha1.DirectoryPrefix+person.Username)
	user, err := oidc.Admit(r.Context(), o.Client, person)
	if err != nil {
		return o.fail(w, r, err)
	}
	gateway.NoteActor(r.Context(), user.Identity())
	if login.program.port != 0 {
		code := pki.NewToken()
		o.codes.put(code, gateway.ClientIP(r), admitted{user: user, groups: person.Groups, challenge: login.program.challenge})
		return sendTo(w, r, fmt.Sprintf("http://127.0.0.1:%d/?code=%s", login.program.port, code))
	}
	session, err := o.Sessions.Open(r.Context(), user, person.Groups, auth.Origin{From: gateway.ClientIP(r)})
	if err != nil {
		return o.fail(w, r, err)
	}
	if err := (handler{Deps{Sessions: o.Sessions}}).leaveSession(r); err != nil {
		return o.fail(w, r, err)
	}
	http.SetCookie(w, session.Cookie())
	return sendTo(w, r, afterLogin)
}

// exchange gives a program the token of the person whose browser brought it the code.
func (o *directoryLogin) exchange(w http.ResponseWriter, r *http.Request) error {
	var asked struct{ Code, Verifier string }
	if err := foreign(r); err != nil {
		return err
	}
	if err := read(w, r, &asked); err != nil {
		return err
	}
	// A code is gone after one try, right or wrong.
	found, known := o.codes.take(asked.Code)
	digest := sha256.Sum256([]byte(asked.Verifier))
	challenge := base64.RawURLEncoding.EncodeToString(digest[:])
	// RFC 7636 gives verifiers this form.
	proper := regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`).MatchString(asked.Verifier)
	if !known || !proper || subtle.ConstantTimeCompare([]byte(challenge), []byte(found.challenge)) != 1 {
		return apierrors.NewUnauthorized("the code is not valid for this program; run slipway login again")
	}
	gateway.NoteActor(r.Context(), found.user.Identity())
	var user v1alpha1.User
	err := o.Client.Get(r.Context(), client.ObjectKeyFromObject(found.user), &user)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot read User %s: %w", found.user.Name, err)
	}
	if err != nil || user.UID != found.user.UID {
		return apierrors.NewUnauthorized("this account is gone; run slipway login again")
	}
	setting, err := auth.LoginSetting(r.Context(), o.Client)
	if err != nil {
		return err
	}
	// What the directory said of the person is as old as the login: the token lives no longer than a session would.
	token, err := o.Tokens.Login(r.Context(), &user, found.groups, auth.TokenRequest{
		Name: loginTokenName, Life: time.Duration(setting.SessionHours) * time.Hour, Narrow: true, From: gateway.ClientIP(r),
	})
	if err != nil {
		return err
	}
	return gateway.WriteJSON(w, entered{Identity: user.Identity(), Expires: token.Expires, ID: token.ID, Token: token.Secret})
}

func sameDigest(a, b [sha256.Size]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

// bindingCookie is Lax, since the browser comes back from another site.
func bindingCookie(value string, seconds int) *http.Cookie {
	return &http.Cookie{Name: oidcCookie, Value: value, Path: "/", MaxAge: seconds, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// sendTo sends a browser elsewhere, once: the address is not to be kept.
func sendTo(w http.ResponseWriter, r *http.Request, address string) error {
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, address, http.StatusSeeOther)
	return nil
}
