package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// SessionCookie is the cookie of a browser session. Its prefix makes browsers take it from this host alone, over TLS.
const SessionCookie = "__Host-slipway"

const (
	// writeSeen is how often the use of a session is written down at most.
	writeSeen = 5 * time.Minute
	// maxSessions is how many live sessions one person has at most; the oldest make room.
	maxSessions = 50
)

// Sessions owns the browser sessions of people: on the server, revocable, each with an end. It is safe for concurrent use.
type Sessions struct {
	people people
	store  store
}

// NewSessions keeps sessions in the API behind the client, which must act as Slipway itself and read live.
func NewSessions(c client.Client) *Sessions {
	return &Sessions{people: people{client: c}, store: store{client: c, secretType: v1alpha1.SecretTypeSession, prefix: "session-"}}
}

// Origin says how a session or a login token comes about.
type Origin struct {
	// From is the address of the client, without port; gateway.ClientIP gives it.
	From string
	// MustChange lets the session only change the password.
	MustChange bool
}

// Session is one browser session, as its owner sees it.
type Session struct {
	ID       string    `json:"id"`
	Made     time.Time `json:"made"`
	LastSeen time.Time `json:"lastSeen"`
	// Expires is when it ends at the latest.
	Expires time.Time `json:"expires"`
	From    string    `json:"from,omitempty"`
	// Current says that it is the one that asks.
	Current bool `json:"current,omitempty"`

	secret string
}

// Cookie gives the cookie of a session that was just opened.
func (s Session) Cookie() *http.Cookie {
	return &http.Cookie{
		Name: SessionCookie, Value: s.ID + "." + s.secret, Path: "/", Expires: s.Expires.UTC(),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// NoCookie gives the cookie that makes a browser forget its session.
func NoCookie() *http.Cookie {
	return &http.Cookie{Name: SessionCookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// Open begins a session of a person who just proved who they are. Groups are those of the directory, without
// prefix; nil for a local account. It fails with a Forbidden error for a disabled user.
func (s *Sessions) Open(ctx context.Context, u *v1alpha1.User, groups []string, origin Origin) (*Session, error) {
	if err := mayLogIn(u); err != nil {
		return nil, err
	}
	login, err := LoginSetting(ctx, s.people.client)
	if err != nil {
		return nil, err
	}
	if err := s.makeRoom(ctx, u); err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	secret, digest := newSecret()
	r := &record{
		User: u.Name, UID: u.UID, Digest: digest, Groups: slices.Clone(groups), From: origin.From, MustChange: origin.MustChange,
		Made: now, Expires: now.Add(time.Duration(login.SessionHours) * time.Hour),
	}
	r.use(now, login)
	id, err := s.store.create(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("cannot open a session of %s: %w", u.Name, err)
	}
	return &Session{ID: id, Made: r.Made, LastSeen: now, Expires: r.Expires, From: r.From, secret: secret}, nil
}

// use notes that a session was used now.
func (r *record) use(now time.Time, login *v1alpha1.LoginSetting) {
	until := now.Add(time.Duration(login.SessionIdleMinutes) * time.Minute)
	r.Seen, r.IdleUntil = &now, &until
}

// makeRoom ends the oldest sessions of a person who has too many, and those that are over.
func (s *Sessions) makeRoom(ctx context.Context, u *v1alpha1.User) error {
	all, err := s.store.of(ctx, u.Name, u.UID)
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b entry) int { return b.Made.Compare(a.Made) })
	live := 0
	for _, e := range all {
		if e.live(time.Now()) {
			live++
		}
		if !e.live(time.Now()) || live >= maxSessions {
			if err := s.store.delete(ctx, e.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// Authenticate gives the person whose session cookie the request bears. A request that could change something
// counts only when it comes from a page of this server; one with an Authorization header never counts.
func (s *Sessions) Authenticate(r *http.Request) (user.Info, bool, error) {
	cookies := r.CookiesNamed(SessionCookie)
	if len(cookies) != 1 || len(r.Header.Values("Authorization")) > 0 || !SafeOrigin(r) {
		return nil, false, nil
	}
	id, secret, _ := strings.Cut(cookies[0].Value, ".")
	found, object, err := s.store.find(r.Context(), id, secret)
	if err != nil || found == nil {
		return nil, false, err
	}
	who, err := s.people.person(r.Context(), found, viaSession+id)
	if err != nil || who == nil {
		return nil, false, err
	}
	if found.MustChange {
		who.Extra[mustChangeKey] = []string{"true"}
	}
	alive, err := s.touch(r.Context(), found, object)
	if err != nil || !alive {
		return nil, false, err
	}
	return who, true, nil
}

type lookingKey struct{}

// Looking makes authentication under the context no use of a session: the server itself looks whether it still is one.
func Looking(ctx context.Context) context.Context {
	return context.WithValue(ctx, lookingKey{}, true)
}

// touch writes down that the session is in use, but not at each request. It gives false when the session ended
// in that moment.
func (s *Sessions) touch(ctx context.Context, r *record, object *corev1.Secret) (bool, error) {
	if ctx.Value(lookingKey{}) != nil {
		return true, nil
	}
	now := time.Now().UTC().Truncate(time.Second)
	idle := r.IdleUntil.Sub(*r.Seen)
	if now.Sub(*r.Seen) < min(writeSeen, idle/5) {
		return true, nil
	}
	login, err := LoginSetting(ctx, s.people.client)
	if err != nil {
		return false, err
	}
	r.use(now, login)
	content, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	object.Data = map[string][]byte{recordKey: content}
	switch err := s.store.client.Update(ctx, object); {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil && !apierrors.IsConflict(err): // On conflict another request wrote the same.
		return false, fmt.Errorf("cannot write down the use of a session: %w", err)
	}
	return true, nil
}

// List gives the live sessions of the person, the newest first.
func (s *Sessions) List(ctx context.Context, who user.Info) ([]Session, error) {
	all, err := ownOf(ctx, s.store, who)
	if err != nil {
		return nil, err
	}
	kind, current := Via(who)
	sessions := []Session{}
	for _, e := range all {
		if e.live(time.Now()) && e.Seen != nil {
			sessions = append(sessions, Session{ID: e.id, Made: e.Made, LastSeen: *e.Seen, Expires: e.Expires, From: e.From,
				Current: kind == "session" && e.id == current})
		}
	}
	slices.SortFunc(sessions, func(a, b Session) int { return cmp.Or(b.Made.Compare(a.Made), strings.Compare(a.ID, b.ID)) })
	return sessions, nil
}

// End ends one session of the person. It fails with a NotFound error when the person has no such session.
func (s *Sessions) End(ctx context.Context, who user.Info, id string) error {
	return endOwn(ctx, s.store, who, id, "sessions")
}

// Drop ends a session that was just opened; one that is gone is fine.
func (s *Sessions) Drop(ctx context.Context, id string) error { return s.store.delete(ctx, id) }

// EndAll ends every session of a user but the one to keep, which may be "".
func (s *Sessions) EndAll(ctx context.Context, userName, keep string) error {
	return s.store.endAll(ctx, userName, keep)
}
