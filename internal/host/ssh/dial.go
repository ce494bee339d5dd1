package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

const (
	// helloTimeout bounds the way from the TCP connection to a verified host key.
	helloTimeout = 10 * time.Second
	// loginTimeout bounds the login after that: some machines look up names meanwhile.
	loginTimeout = 30 * time.Second
	version      = "SSH-2.0-Slipway"
)

var (
	errKeySeen  = errors.New("key seen")
	errKeyWrong = errors.New("key is not the pinned one")
	errUsed     = errors.New("the password was refused already")
)

// Dial logs in to a machine whose key is pinned. It tries each secret once and never again: what to do
// about a refused login is for a person to say. The session ends when it is closed or the connection breaks.
func Dial(ctx context.Context, t Target) (*Session, error) {
	if t.HostKey == "" {
		return nil, unconfirmed(ctx, t)
	}
	pinned, err := parseKey(t.HostKey)
	if err != nil {
		return nil, fault.NewTerminal(ReasonHostKeyUnconfirmed, "pin the key that the host shows, as in known_hosts",
			fmt.Errorf("cannot log in to host %s: %w", t.Name, err))
	}
	login := &login{target: t, pinned: pinned}
	config, err := login.config()
	if err != nil {
		return nil, fmt.Errorf("cannot log in to host %s: %w", t, err)
	}
	client, err := handshake(ctx, t.endpoint(), config, &login.conn)
	if err != nil {
		return nil, login.explain(ctx, clean(err))
	}
	return newSession(client, t), nil
}

// Scan shows the key that a machine offers, in known_hosts form, and its SHA256 fingerprint. It logs in
// nowhere and verifies nothing: a person compares the fingerprint.
func Scan(ctx context.Context, address string, port int) (key, fingerprint string, err error) {
	t := Target{Address: address, Port: port}
	var offered ssh.PublicKey
	config := &ssh.ClientConfig{
		User:          "root",
		ClientVersion: version,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
			ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			offered = k
			return errKeySeen
		},
	}
	var conn net.Conn
	client, err := handshake(ctx, t.endpoint(), config, &conn)
	if client != nil {
		err = errors.Join(errors.New("the machine let us in without a key"), client.Close())
	}
	if offered == nil {
		return "", "", unreachable(fmt.Errorf("cannot read the host key of %s: %w", t.endpoint(), clean(err)))
	}
	return formatKey(offered), ssh.FingerprintSHA256(offered), nil
}

// handshake connects, sets the deadlines and stops at once when ctx ends. It leaves the connection in
// kept as soon as there is one.
func handshake(ctx context.Context, endpoint string, config *ssh.ClientConfig, kept *net.Conn) (*ssh.Client, error) {
	deadline := time.Now().Add(helloTimeout)
	dialer := net.Dialer{Deadline: deadline, KeepAlive: 30 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return nil, err
	}
	*kept = conn
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	c, channels, requests, err := ssh.NewClientConn(conn, endpoint, config)
	if err != nil {
		stop()
		return nil, err
	}
	if !stop() {
		return nil, errors.Join(ctx.Err(), c.Close())
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return ssh.NewClient(c, channels, requests), nil
}

// login is one try to log in and what was learnt on the way.
type login struct {
	target  Target
	pinned  ssh.PublicKey
	conn    net.Conn
	offered ssh.PublicKey
	used    bool
	asked   int
	banner  string
}

// maxQuestions is how often a machine may come back with questions in one login.
const maxQuestions = 10

func (l *login) config() (*ssh.ClientConfig, error) {
	config := &ssh.ClientConfig{
		User:              l.target.user(),
		ClientVersion:     version,
		HostKeyAlgorithms: algorithms(l.pinned.Type()),
		HostKeyCallback:   l.checkKey,
		BannerCallback: func(text string) error {
			l.banner = text[:min(len(text), 4096)]
			return nil
		},
	}
	if l.target.user() != "root" && strings.ContainsAny(l.target.SudoPassword, "\x00\n\r") {
		// sudo reads one line; what follows would become the input of the command.
		return nil, fault.NewTerminal(ReasonBadCredential, "put the sudo password on one line into a new credential", errors.New("the sudo password has more than one line"))
	}
	if len(l.target.Auth.PrivateKey) > 0 {
		signer, err := l.target.Auth.signer()
		if err != nil {
			return nil, err
		}
		config.Auth = append(config.Auth, ssh.PublicKeys(signer))
	}
	if l.target.Auth.Password != "" {
		config.Auth = append(config.Auth, ssh.PasswordCallback(l.password), ssh.KeyboardInteractive(l.answer))
	}
	if len(config.Auth) == 0 {
		return nil, fault.NewTerminal(ReasonBadCredential, "put a password or a private key into the credential", errors.New("the credential is empty"))
	}
	return config, nil
}

// algorithms gives the signature algorithms of a key type; others would make the machine show another key.
func algorithms(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// checkKey compares the key that the machine shows, at the login and at each later exchange of keys. Only the first
// sets a deadline: a later one must neither lengthen the login nor end a connection that is in use.
func (l *login) checkKey(name string, remote net.Addr, key ssh.PublicKey) error {
	first := l.offered == nil
	l.offered = key
	if err := ssh.FixedHostKey(l.pinned)(name, remote, key); err != nil {
		return errKeyWrong
	}
	if !first {
		return nil
	}
	return l.conn.SetDeadline(time.Now().Add(loginTimeout))
}

// password gives the password once: a second try with the same one only brings a lockout nearer.
func (l *login) password() (string, error) {
	if l.used {
		return "", errUsed
	}
	l.used = true
	return l.target.Auth.Password, nil
}

func (l *login) answer(_, _ string, questions []string, echos []bool) ([]string, error) {
	if l.asked++; l.asked > maxQuestions {
		return nil, errors.New("the machine does not stop asking")
	}
	answers := make([]string, len(questions))
	for i := range questions {
		if echos[i] {
			return nil, fmt.Errorf("the machine asks %.100q, which a credential cannot answer", questions[i])
		}
		secret, err := l.password()
		if err != nil {
			return nil, err
		}
		answers[i] = secret
	}
	return answers, nil
}

// explain classifies why a login failed.
func (l *login) explain(ctx context.Context, err error) error {
	var negotiation *ssh.AlgorithmNegotiationError
	text := strings.ToLower(err.Error())
	switch {
	case errors.Is(err, errKeyWrong):
		return changed(l.target, formatKey(l.offered))
	case errors.As(err, &negotiation) && strings.Contains(negotiation.What, "host key"):
		offered, _, scanErr := Scan(ctx, l.target.Address, l.target.port())
		if scanErr != nil {
			return fmt.Errorf("cannot log in to host %s: it no longer offers the pinned kind of key: %w", l.target, scanErr)
		}
		return changed(l.target, offered)
	case errors.As(err, &negotiation):
		return fault.NewTerminal(ReasonIncompatible, "allow current algorithms in the sshd_config of the host", fmt.Errorf("cannot log in to host %s: %w", l.target, err))
	case strings.Contains(l.banner, "System is booting up") || strings.Contains(l.banner, "System is going down"):
		return unreachable(fmt.Errorf("cannot log in to host %s: %s", l.target, host.Clean(l.banner, maxSaid)))
	case errors.Is(err, errUsed) || strings.Contains(text, "unable to authenticate") || strings.Contains(text, "too many authentication"):
		return fault.NewTerminal(ReasonLoginRefused,
			"check the user and the password or key of the credential, and that sshd on the host allows this way to log in; then set a new credential",
			fmt.Errorf("cannot log in to host %s: the login was refused: %w", l.target, err))
	default:
		return unreachable(fmt.Errorf("cannot reach host %s: %w", l.target, err))
	}
}

func changed(t Target, offered string) error {
	return fault.NewTerminal(ReasonHostKeyChanged,
		"find out why: if the machine was installed anew, compare the fingerprint on the machine itself and pin the new key",
		&HostKeyError{Host: t.Name, Pinned: t.HostKey, Offered: offered})
}

func unconfirmed(ctx context.Context, t Target) error {
	offered, _, err := Scan(ctx, t.Address, t.port())
	if err != nil {
		return err
	}
	return fault.NewTerminal(ReasonHostKeyUnconfirmed,
		"compare the fingerprint with what ssh-keygen -l prints on the machine itself, then pin the key",
		&HostKeyError{Host: t.Name, Offered: offered})
}

func unreachable(err error) error { return fault.NewTransient(host.ReasonUnreachable, err) }

// splitPort reads HOST:PORT for direct-tcpip.
func splitPort(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is no port", port)
	}
	return nil
}
