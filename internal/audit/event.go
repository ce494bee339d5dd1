package audit

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"
)

// Event is one thing that someone did, or tried to do.
type Event struct {
	// Time is when it ended; Record sets it when it is zero.
	Time time.Time `json:"time"`
	// Actor is the identity of the person, or system:… for the server itself. Empty means: not logged in.
	Actor string `json:"actor,omitempty"`
	// Via says with what the person came in: session:ID, token:ID, admin-token.
	Via string `json:"via,omitempty"`
	// From is the address of the client, without port. Empty means: the server itself.
	From string `json:"from,omitempty"`
	// Verb is what was done: an API verb, or one of Slipway's own such as login, kubeconfig, use-credential.
	Verb string `json:"verb"`
	// Object is what it was done to: RESOURCE[.GROUP][/SUBRESOURCE] [NAMESPACE/]NAME, such as `clusters dev/blue`, or a path.
	Object string `json:"object,omitempty"`
	// Project is the namespace the object is in.
	Project string `json:"project,omitempty"`
	// Code is the HTTP status of the answer; 0 when there was none.
	Code int `json:"code,omitempty"`
	// Result is Allowed, Refused (by a rule) or Failed.
	Result Result `json:"result"`
	// Reason says why it was refused or failed, never a secret.
	Reason string `json:"reason,omitempty"`
	// Detail holds more facts, such as the reason a person gave; never a secret.
	Detail map[string]string `json:"detail,omitempty"`
}

// Result is how it ended.
type Result string

// The results.
const (
	Allowed Result = "Allowed"
	Refused Result = "Refused"
	Failed  Result = "Failed"
)

// ViaKey is the key of a person's extra values that says with what they came in.
const ViaKey = "slipway.dev/via"

// Server is the actor of what Slipway does by itself.
const Server = "system:slipway"

// ResultOf gives the result that an HTTP status stands for: 401, 403 and 429 are Refused, other codes of 400 and above Failed.
func ResultOf(code int) Result {
	switch {
	case code == 401 || code == 403 || code == 429:
		return Refused
	case code >= 400:
		return Failed
	default:
		return Allowed
	}
}

// Recorder takes events. Record does not wait for a disk and never fails the request: what cannot be written is
// counted, logged and makes the server not ready.
type Recorder interface{ Record(Event) }

// Discard is a Recorder for tests that do not look.
type Discard struct{}

// Record drops the event.
func (Discard) Record(Event) {}

type whyKey struct{}

// Because says why what is done under the context is done, such as `operation dev/blue-create`: the record of the use
// of a credential says so.
func Because(ctx context.Context, why string) context.Context {
	return context.WithValue(ctx, whyKey{}, why)
}

// Why gives what Because said; empty when it is not known.
func Why(ctx context.Context) string {
	why, _ := ctx.Value(whyKey{}).(string)
	return why
}

// How much of an event is kept. Clients choose some of the texts, and must not choose the size of the log.
const (
	maxText    = 512
	maxDetail  = 1024
	maxDetails = 16
)

// bounded gives the event with every text cut to its limit.
func (e Event) bounded() Event {
	for _, text := range []*string{&e.Actor, &e.Via, &e.From, &e.Verb, &e.Object, &e.Project, &e.Reason, (*string)(&e.Result)} {
		*text = shorten(*text, maxText)
	}
	if len(e.Detail) == 0 {
		return e
	}
	kept := make(map[string]string, min(len(e.Detail), maxDetails))
	for key, value := range e.Detail {
		if len(kept) == maxDetails {
			break
		}
		kept[shorten(key, maxText)] = shorten(value, maxDetail)
	}
	e.Detail = kept
	return e
}

func shorten(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	const more = "…"
	end := limit - len(more)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}
