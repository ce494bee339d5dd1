package auth

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

const (
	// tokenPrefix begins every personal token, so that people and scanners know one when they see it.
	tokenPrefix = "slp_"
	// maxTokens is how many live tokens one person has at most.
	maxTokens = 200
	// defaultTokenLife is that of a token for which no life is asked.
	defaultTokenLife = 30 * 24 * time.Hour
	maxTokenName     = 64
)

// Tokens owns the personal tokens of people. It is safe for concurrent use.
type Tokens struct {
	people people
	store  store
}

// NewTokens keeps tokens in the API behind the client, which must act as Slipway itself and read live.
func NewTokens(c client.Client) *Tokens {
	return &Tokens{people: people{client: c}, store: store{client: c, secretType: v1alpha1.SecretTypeToken, prefix: "token-"}}
}

// WithAdmin gives the same tokens, and those among them that this admin token made. Without it none of these count;
// with another admin token those of the earlier one count no more.
func (t *Tokens) WithAdmin(a *AdminToken) *Tokens {
	with := *t
	with.people.adminMark = a.mark()
	return &with
}

// TokenRequest says what token is wanted.
type TokenRequest struct {
	// Name tells a person what the token is for; at most 64 characters.
	Name  string
	Scope Scope
	// Life is how long it is valid. Zero means 30 days, or the longest that is allowed if that is less.
	Life time.Duration
	// Narrow gives a token that is shorter-lived or read-only where what the person came in with, or the policy,
	// allows no more. Without it such a wish is refused.
	Narrow bool
	// From is the address of the client, without port.
	From string
}

// Token is one personal token, as its owner sees it.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Scope   Scope     `json:"scope"`
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires"`
	From    string    `json:"from,omitempty"`
	// Current says that it is the one that asks.
	Current bool `json:"current,omitempty"`
	// Secret is the token itself, slp_ID_SECRET. It is set only in the answer to the mint: nobody can read it again.
	Secret string `json:"token,omitempty"`
}

// Mint makes a token for a person who is logged in: never with more scope, nor a longer life, than the token that
// the person came in with. What is refused comes back as an API error that says why.
func (t *Tokens) Mint(ctx context.Context, who user.Info, request TokenRequest) (*Token, error) {
	owner := UserName(who)
	if owner == "" || MustChange(who) {
		return nil, forbidden("%s cannot have personal tokens", who.GetName())
	}
	if outer := ScopeOf(who); !request.Scope.Within(outer) {
		if request.Narrow {
			request.Scope.ReadOnly = request.Scope.ReadOnly || outer.ReadOnly
		}
		if !request.Scope.Within(outer) {
			return nil, forbidden("a token cannot make one that may do more than itself")
		}
	}
	atMost := time.Duration(0)
	if kind, id := Via(who); kind == "token" {
		parent, _, err := t.store.read(ctx, id)
		if err != nil {
			return nil, err
		}
		if parent == nil || !parent.live(time.Now()) {
			return nil, apierrors.NewUnauthorized("the token that this request came with has ended")
		}
		atMost = time.Until(parent.Expires)
	}
	r := &record{User: owner, UID: types.UID(who.GetUID()), Groups: DirectoryGroups(who)}
	if r.UID == "" {
		// The admin token of the data directory: there may be no User yet.
		if owner != v1alpha1.AdminUser || extra(who, adminMarkKey) == "" {
			return nil, forbidden("%s cannot have personal tokens", who.GetName())
		}
		r.Server = extra(who, adminMarkKey)
	}
	return t.mint(ctx, r, request, atMost)
}

// Login gives a token to a person who just proved who they are, for a program that has no cookies. Groups are
// those of the directory, without prefix; nil for a local account.
func (t *Tokens) Login(ctx context.Context, u *v1alpha1.User, groups []string, request TokenRequest) (*Token, error) {
	if err := mayLogIn(u); err != nil {
		return nil, err
	}
	return t.mint(ctx, &record{User: u.Name, UID: u.UID, Groups: slices.Clone(groups)}, request, 0)
}

// mint makes the token. atMost limits its life beside the policy; zero means no more than the policy does.
func (t *Tokens) mint(ctx context.Context, r *record, request TokenRequest, atMost time.Duration) (*Token, error) {
	if err := request.check(); err != nil {
		return nil, err
	}
	login, err := LoginSetting(ctx, t.people.client)
	if err != nil {
		return nil, err
	}
	longest := time.Duration(login.TokenDays) * 24 * time.Hour
	if atMost > 0 {
		longest = min(longest, atMost)
	}
	life := request.Life
	switch {
	case life == 0:
		life = min(defaultTokenLife, longest)
	case atMost > 0 && life > atMost && !request.Narrow:
		return nil, forbidden("a token lives no longer than the login that asks for it, which ends in %s; ask for less, or log in for longer or in a browser",
			atMost.Round(time.Minute))
	case life > longest && !request.Narrow:
		return nil, forbidden("a token may live for %s at most here; ask for less", longest.Round(time.Minute))
	}
	if err := t.room(ctx, r); err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	secret, digest := newSecret()
	r.Digest, r.Made, r.Expires = digest, now, now.Add(min(life, longest)).Truncate(time.Second)
	r.Name, r.Scope, r.From = request.Name, request.Scope, request.From
	id, err := t.store.create(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("cannot make a token of %s: %w", r.User, err)
	}
	token := tokenOf(entry{id, r})
	token.Secret = tokenPrefix + id + "_" + secret
	return &token, nil
}

// check refuses a wish that makes no sense.
func (r *TokenRequest) check() error {
	switch {
	case strings.TrimSpace(r.Name) == "" || len(r.Name) > maxTokenName || strings.ContainsFunc(r.Name, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return apierrors.NewBadRequest("a token needs a name of at most 64 characters that says what it is for")
	case r.Life < 0:
		return apierrors.NewBadRequest("a token cannot end before it begins; give a life that is more than zero")
	case r.Scope.Cluster != "" && len(r.Scope.Projects) > 0:
		return apierrors.NewBadRequest("a token is limited to projects or to one cluster, not to both")
	case r.Scope.Cluster != "" && !validCluster(r.Scope.Cluster):
		return apierrors.NewBadRequest("scope.cluster reads PROJECT/NAME")
	case len(r.Scope.Projects) > 50 || slices.ContainsFunc(r.Scope.Projects, func(p string) bool { return !ValidName(p) }):
		return apierrors.NewBadRequest("scope.projects lists the names of at most 50 projects")
	}
	return nil
}

// room refuses one token too many, and deletes those that are over.
func (t *Tokens) room(ctx context.Context, r *record) error {
	all, err := t.store.of(ctx, r.User, r.UID)
	if err != nil {
		return err
	}
	live := 0
	for _, e := range all {
		if e.live(time.Now()) {
			live++
			continue
		}
		if err := t.store.delete(ctx, e.id); err != nil {
			return err
		}
	}
	if live >= maxTokens {
		return forbidden("%s has %d tokens already; revoke some", r.User, live)
	}
	return nil
}

// Authenticate gives the person whose personal token the request bears.
func (t *Tokens) Authenticate(r *http.Request) (user.Info, bool, error) {
	bearer, ok := Bearer(r)
	if !ok {
		return nil, false, nil
	}
	rest, ours := strings.CutPrefix(bearer, tokenPrefix)
	if !ours {
		return nil, false, nil
	}
	id, secret, _ := strings.Cut(rest, "_")
	found, _, err := t.store.find(r.Context(), id, secret)
	if err != nil || found == nil {
		return nil, false, err
	}
	who, err := t.people.person(r.Context(), found, viaToken+id)
	if err != nil || who == nil {
		return nil, false, err
	}
	return who, true, nil
}

// List gives the live tokens of the person, the newest first, never with the secret.
func (t *Tokens) List(ctx context.Context, who user.Info) ([]Token, error) {
	all, err := ownOf(ctx, t.store, who)
	if err != nil {
		return nil, err
	}
	kind, current := Via(who)
	tokens := []Token{}
	for _, e := range all {
		if e.live(time.Now()) {
			token := tokenOf(e)
			token.Current = kind == "token" && e.id == current
			tokens = append(tokens, token)
		}
	}
	slices.SortFunc(tokens, func(a, b Token) int {
		if order := b.Made.Compare(a.Made); order != 0 {
			return order
		}
		return strings.Compare(a.ID, b.ID)
	})
	return tokens, nil
}

func tokenOf(e entry) Token {
	return Token{ID: e.id, Name: e.Name, Scope: e.Scope, Made: e.Made, Expires: e.Expires, From: e.From}
}

// Revoke ends one token of the person. It fails with a NotFound error when the person has no such token.
func (t *Tokens) Revoke(ctx context.Context, who user.Info, id string) error {
	return endOwn(ctx, t.store, who, id, "tokens")
}

// Drop ends a token that was just made; one that is gone is fine.
func (t *Tokens) Drop(ctx context.Context, id string) error { return t.store.delete(ctx, id) }

// EndAll ends every token of a user but the one to keep, which may be "".
func (t *Tokens) EndAll(ctx context.Context, userName, keep string) error {
	return t.store.endAll(ctx, userName, keep)
}

func ownOf(ctx context.Context, s store, who user.Info) ([]entry, error) {
	owner := UserName(who)
	if owner == "" {
		return nil, nil
	}
	return s.of(ctx, owner, types.UID(who.GetUID()))
}

func endOwn(ctx context.Context, s store, who user.Info, id, resource string) error {
	all, err := ownOf(ctx, s, who)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(e entry) bool { return e.id == id }) {
		return apierrors.NewNotFound(schema.GroupResource{Group: v1alpha1.Group, Resource: resource}, id)
	}
	return s.delete(ctx, id)
}
