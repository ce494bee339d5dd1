package audit

import "time"

// Event is one thing that someone did, or tried to do.
type Event struct {
	// Time is when it ended; Record sets it when it is zero.
	Time time.Time `json:"time"`
	// Actor is the identity of the person, or system:… for the server itself. Empty means: not logged in.
	Actor string `json:"actor,omitempty"`
	// Via says with what the person came in: session:ID, token:ID, admin-token.
	Via string `json:"via,omitempty"`
	// From is the address of the client, without port.
	From string `json:"from,omitempty"`
	// Verb is what was done: an API verb, or one of Slipway's own such as login, kubeconfig, use-credential.
	Verb string `json:"verb"`
	// Object is what it was done to: RESOURCE[/SUBRESOURCE] [NAMESPACE/]NAME, such as `clusters dev/blue`.
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

// Recorder takes events. Record does not wait for a disk to be quick and never fails the request: what cannot be
// written is counted, logged and makes the server not ready.
type Recorder interface{ Record(Event) }

// Discard is a Recorder for tests that do not look.
type Discard struct{}

// Record drops the event.
func (Discard) Record(Event) {}
