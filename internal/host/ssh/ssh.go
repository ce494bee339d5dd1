// Package ssh owns the SSH way to a host: pinned keys, one connection a host, bounded channels, sudo.
// It must never accept a key that nobody pinned, retry a refused login by itself, or put a secret in an argv.
package ssh

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// The reasons of the errors that logging in gives; host.ReasonUnreachable is the Transient one.
const (
	ReasonLoginRefused       = "LoginRefused"
	ReasonSudoRefused        = "SudoRefused"
	ReasonHostKeyChanged     = "HostKeyChanged"
	ReasonHostKeyUnconfirmed = "HostKeyUnconfirmed"
	ReasonBadCredential      = "BadCredential"
	ReasonIncompatible       = "SSHIncompatible"
	ReasonForwardingRefused  = host.ReasonForwardingRefused
	ReasonTooMuchOutput      = "TooMuchOutput"
)

// Auth is how to log in: a password, a private key, or both; the key is tried first.
type Auth struct {
	Password string
	// PrivateKey is in PEM or OpenSSH form.
	PrivateKey []byte
	// Passphrase opens PrivateKey; empty when it is not locked.
	Passphrase string
}

// Target is one machine to log in to.
type Target struct {
	// Name is the Host's name; errors speak of it.
	Name string
	// Address is an IP address or DNS name.
	Address string
	// Credential names where User and Auth come from, for the record of their use; it changes nothing.
	Credential string
	// Port is that of sshd; 0 means 22.
	Port int
	// User logs in; empty means root. Any other user works through sudo.
	User string
	Auth Auth
	// SudoPassword answers sudo; empty means that sudo must not ask.
	SudoPassword string
	// HostKey is the pinned key as in known_hosts: "ssh-ed25519 AAAA...".
	HostKey string

	// place is where tests keep the fence; zero means host.DefaultFencePlace.
	place host.FencePlace
}

// Digest tells two targets apart without showing their secrets.
func (t Target) Digest() string {
	h := sha256.New()
	for _, s := range []string{t.Name, t.Address, strconv.Itoa(t.port()), t.user(), t.Auth.Password, string(t.Auth.PrivateKey),
		t.Auth.Passphrase, t.SudoPassword, t.HostKey, t.place.State} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (t Target) port() int {
	if t.Port == 0 {
		return 22
	}
	return t.Port
}

func (t Target) user() string {
	if t.User == "" {
		return "root"
	}
	return t.User
}

func (t Target) endpoint() string { return net.JoinHostPort(t.Address, strconv.Itoa(t.port())) }

// String names the target in errors, without secrets.
func (t Target) String() string { return fmt.Sprintf("%s (%s@%s)", t.Name, t.user(), t.endpoint()) }

// GoString keeps secrets out of %#v as well.
func (t Target) GoString() string { return t.String() }

// HostKeyError says that a machine showed another key than the pinned one, or that none is pinned.
type HostKeyError struct {
	Host string
	// Pinned and Offered are in known_hosts form; Pinned is empty when no key is pinned, Offered when
	// the machine's key could not be read.
	Pinned, Offered string
}

// Error names both fingerprints.
func (e *HostKeyError) Error() string {
	if e.Pinned == "" {
		return fmt.Sprintf("cannot log in to host %s: its key is not confirmed; it offers %s", e.Host, printable(e.Offered))
	}
	return fmt.Sprintf("cannot log in to host %s: its key changed from %s to %s", e.Host, printable(e.Pinned), printable(e.Offered))
}

func printable(key string) string {
	if print := Fingerprint(key); print != "" {
		return print
	}
	return "another kind of key"
}

// Fingerprint gives the SHA256 form of a key in known_hosts form; empty when it is none.
func Fingerprint(key string) string {
	public, err := parseKey(key)
	if err != nil {
		return ""
	}
	return ssh.FingerprintSHA256(public)
}

func parseKey(text string) (ssh.PublicKey, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("cannot read host key: %w", err)
	}
	return key, nil
}

func formatKey(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// signer opens the private key.
func (a Auth) signer() (ssh.Signer, error) {
	var signer ssh.Signer
	var err error
	if a.Passphrase != "" {
		signer, err = ssh.ParsePrivateKeyWithPassphrase(a.PrivateKey, []byte(a.Passphrase))
	} else {
		signer, err = ssh.ParsePrivateKey(a.PrivateKey)
	}
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, fault.NewTerminal(ReasonBadCredential, "add the key's passphrase to the credential", errors.New("cannot open private key: it is locked by a passphrase"))
	case err != nil:
		return nil, fault.NewTerminal(ReasonBadCredential, "put a private key in PEM or OpenSSH form, with its passphrase if it has one, into a new credential",
			fmt.Errorf("cannot open private key: %w", err))
	}
	return signer, nil
}
