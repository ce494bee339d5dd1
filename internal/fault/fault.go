// Package fault owns the classes of errors and what each class means to the engine, the API and the command line.
// It must never hold messages of one area: those belong to the code that fails.
package fault

import (
	"context"
	"errors"
	"time"
)

// Class says what may be done about an error.
type Class string

// The classes, from the one that mends itself to the one that is our mistake.
const (
	// Transient errors may go away when the same thing is tried again: a cut connection, a busy lock.
	Transient Class = "Transient"
	// Waiting is no failure: something that was started has not finished yet.
	Waiting Class = "Waiting"
	// Terminal errors stay until a person does what Fix says.
	Terminal Class = "Terminal"
	// Bug is a broken promise inside Slipway.
	Bug Class = "Bug"
)

// Error is a classified error. It prints as its cause; Fix is shown beside it.
type Error struct {
	// Class decides whether the engine tries again.
	Class Class
	// Reason is a CamelCase word for conditions and API answers, such as HostKeyChanged.
	Reason string
	// Fix says what a person can do; empty when nothing is to be done.
	Fix string
	// After is the wait before the next look at a Waiting error; zero means the engine's own back-off.
	After time.Duration
	// Err is the cause.
	Err error
}

// Error gives the message of the cause.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// NewTransient marks err as worth another try. A nil err gives nil.
func NewTransient(reason string, err error) error { return wrap(Transient, reason, "", err) }

// NewWaiting marks err as "not yet". A nil err gives nil.
func NewWaiting(reason string, err error) error { return wrap(Waiting, reason, "", err) }

// NewTerminal marks err as needing a person, who should do what fix says. A nil err gives nil.
func NewTerminal(reason, fix string, err error) error { return wrap(Terminal, reason, fix, err) }

// NewBug marks err as our own mistake. A nil err gives nil.
func NewBug(err error) error {
	return wrap(Bug, "InternalError", "report this to the maintainers with the operation's logs", err)
}

func wrap(c Class, reason, fix string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Class: c, Reason: reason, Fix: fix, Err: err}
}

// ClassOf gives the class of the outermost classified error in err's chain.
// A deadline is Transient; an unclassified error is Terminal, so that nothing unknown is tried for ever.
func ClassOf(err error) Class {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Class
	case errors.Is(err, context.DeadlineExceeded):
		return Transient
	default:
		return Terminal
	}
}

// ReasonOf gives the reason of the outermost classified error, or "Failed".
func ReasonOf(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Reason != "" {
		return e.Reason
	}
	return "Failed"
}

// FixOf gives what a person can do about err, or "".
func FixOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Fix
	}
	return ""
}
