package oidc

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
)

const (
	maxName        = 253
	maxSubject     = 255
	maxDisplayName = 128
	maxEmail       = 254
	// maxGroups bounds what a session stores and each request carries.
	maxGroups = 500
)

// Person is who the provider says has logged in. The names are without prefix.
type Person struct {
	// Issuer and Subject together are the person, for ever.
	Issuer, Subject string
	Username        string
	// Email and DisplayName may be empty.
	Email, DisplayName string
	// Groups is sorted; it is empty when the provider names none.
	Groups []string
}

// person reads the claims of a token whose signature, issuer, audience and expiry are checked.
func (p *Provider) person(token *gooidc.IDToken) (Person, error) {
	var claims map[string]json.RawMessage
	if err := token.Claims(&claims); err != nil {
		return Person{}, &Refused{Message: "the directory's answer cannot be read", cause: err}
	}
	// A token for several clients says which of them asked for it.
	if party := text(claims["azp"]); party != p.setting.ClientID && (party != "" || len(token.Audience) > 1) {
		return Person{}, refuse("the directory's answer is for another client; log in again")
	}
	found := Person{Issuer: p.setting.Issuer, Subject: token.Subject}
	if found.Subject == "" || len(found.Subject) > maxSubject || !printable(found.Subject) {
		return Person{}, refuse("the directory's answer has no usable subject")
	}
	usernameClaim := cmp.Or(p.setting.UsernameClaim, "preferred_username")
	found.Username = text(claims[usernameClaim])
	if err := checkName("username", usernameClaim, found.Username); err != nil {
		return Person{}, err
	}
	// Some providers send the word as a string.
	if verified := claims["email_verified"]; usernameClaim == "email" && verified != nil && strings.Trim(string(verified), `"`) != "true" {
		return Person{}, refuse("the directory has not verified the address %s", found.Username)
	}
	var err error
	if found.Groups, err = groups(cmp.Or(p.setting.GroupsClaim, "groups"), claims); err != nil {
		return Person{}, err
	}
	found.DisplayName = clean(text(claims["name"]), maxDisplayName)
	if email := text(claims["email"]); usableEmail(email) {
		found.Email = email
	}
	return found, nil
}

// groups gives a claim that is a list of names, one name, or not there.
func groups(claim string, claims map[string]json.RawMessage) ([]string, error) {
	raw := claims[claim]
	if raw == nil || string(raw) == "null" {
		return nil, nil
	}
	var list []string
	if err := json.Unmarshal(raw, &list); err != nil {
		var one string
		if err := json.Unmarshal(raw, &one); err != nil {
			return nil, refuse("the directory's claim %s is neither a list of names nor a name", claim)
		}
		if one != "" {
			list = []string{one}
		}
	}
	if len(list) > maxGroups {
		return nil, refuse("the directory names %d groups, more than %d; let it send only the groups that matter here", len(list), maxGroups)
	}
	for _, name := range list {
		if err := checkName("group", claim, name); err != nil {
			return nil, err
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// checkName refuses what could be taken for a name of the platform or of Kubernetes, or cannot be read or stored as it is.
func checkName(what, claim, name string) error {
	lower := strings.ToLower(name)
	switch {
	case name == "":
		return refuse("the directory gives no %s: its claim %s is missing or empty", what, claim)
	case len(name) > maxName:
		return refuse("the directory gives a %s of %d characters, more than %d", what, len(name), maxName)
	case !printable(name) || strings.TrimSpace(name) != name:
		return refuse("the directory gives a %s with characters that cannot be used: %q", what, name)
	case strings.HasPrefix(lower, "system:") || strings.HasPrefix(lower, "slipway:"):
		return refuse("the directory gives the %s %q: names that begin with system: or slipway: belong to the platform", what, name)
	}
	return nil
}

// printable says that a text is UTF-8 of graphic characters: no control characters, none that are invisible or turn
// the direction of writing.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) })
}

// usableEmail says that the kind User takes the address; another is left out and keeps nobody from logging in.
func usableEmail(s string) bool {
	local, domain, _ := strings.Cut(s, "@")
	return local != "" && domain != "" && !strings.Contains(domain, "@") && len(s) <= maxEmail && printable(s) && !strings.ContainsFunc(s, unicode.IsSpace)
}

// clean gives a text for people: without what cannot be printed, and of so many characters at most.
func clean(s string, most int) string {
	kept := []rune(strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsGraphic(r) {
			return -1
		}
		return r
	}, s)))
	return string(kept[:min(len(kept), most)])
}

// text gives a claim that is a string, and "" for any other.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
