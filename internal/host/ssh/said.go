package ssh

import "slipway.dev/slipway/internal/host"

// maxSaid is how much an error says of what a machine sent, in bytes.
const maxSaid = 400

// said is an error whose text a machine had a say in.
type said struct{ error }

// clean makes the text of err safe to show. A nil err gives nil.
func clean(err error) error {
	if err == nil {
		return nil
	}
	return said{err}
}

// Error gives the text on one line, without anything that steers a terminal.
func (s said) Error() string { return host.Clean(s.error.Error(), maxSaid) }

// Unwrap gives the error itself.
func (s said) Unwrap() error { return s.error }
