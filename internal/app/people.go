package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"log/slog"
	"net"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/gateway"
	"slipway.dev/slipway/internal/gateway/login"
	"slipway.dev/slipway/internal/pki"
)

// people is how people prove who they are.
type people struct {
	login.Deps
	// authenticators are those of the port, the cheapest first.
	authenticators []gateway.Authenticator
}

func newPeople(live client.Client, admin *auth.AdminToken, ca func() []byte, log *slog.Logger) *people {
	p := &people{Deps: login.Deps{Client: live, Sessions: auth.NewSessions(live), Tokens: auth.NewTokens(live).WithAdmin(admin), CA: ca, Log: log}}
	p.Accounts = auth.NewAccounts(auth.AccountsConfig{Client: live, Sessions: p.Sessions, Tokens: p.Tokens, Log: log})
	p.Setup = auth.NewSetup(p.Accounts)
	p.authenticators = []gateway.Authenticator{admin, p.Tokens, p.Sessions, auth.NewServiceAccounts(live)}
	return p
}

// setupLink gives a new set-up link, and "" when the server is set up. Only its caller may see it.
func (p *people) setupLink(ctx context.Context, listen net.Addr, names []string) (string, error) {
	secret, err := p.Setup.NewLink(ctx)
	if err != nil || secret == "" {
		return "", err
	}
	address, err := reachable(listen, names)
	if err != nil {
		return "", err
	}
	return "https://" + address + "/slipway/setup#" + secret, nil
}

// fingerprints gives those of the certificates in PEM, as people compare them.
func fingerprints(certificates []byte) []string {
	var all []string
	for block, rest := pem.Decode(certificates); block != nil; block, rest = pem.Decode(rest) {
		digest := sha256.Sum256(block.Bytes)
		all = append(all, "sha256:"+hex.EncodeToString(digest[:]))
	}
	return all
}

// reachable gives the address by which a browser elsewhere is most likely to reach the port: the first of the names,
// else the address it listens on, else one of this machine.
func reachable(listen net.Addr, names []string) (string, error) {
	host, port, err := net.SplitHostPort(listen.String())
	if err != nil {
		return "", err
	}
	if len(names) > 0 {
		host = names[0]
	} else if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		ips, err := pki.LocalAddresses()
		if err != nil {
			return "", err
		}
		var v4, v6 string
		for _, ip := range ips {
			switch {
			case ip.IsLoopback():
			case ip.To4() != nil:
				v4 = cmp.Or(v4, ip.String())
			default:
				v6 = cmp.Or(v6, ip.String())
			}
		}
		host = cmp.Or(v4, v6, "127.0.0.1")
	}
	return net.JoinHostPort(host, port), nil
}
