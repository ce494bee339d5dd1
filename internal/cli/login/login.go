package login

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/gateway"
)

// loginFlags is what the flags of login say.
type loginFlags struct {
	trust
	user, passwordFile, newPasswordFile string
	expires                             time.Duration
	oidc                                bool
}

// granted is what a server gives to who logs in.
type granted struct {
	Identity string    `json:"identity"`
	Token    string    `json:"token"`
	Expires  time.Time `json:"expires"`
}

func newLogin(config Config) *cobra.Command {
	var f loginFlags
	cmd := &cobra.Command{
		Use:   "login URL",
		Short: "Log in to a Slipway server, so that the other commands and kubectl work with it",
		Long: "Log in to a Slipway server. The login is a personal token in the kubeconfig ~/.slipway/kubeconfig, which every\n" +
			"command uses from then on; kubectl --kubeconfig can use it too. It ends after 12 hours, or with `slipway logout`.",
		Example: "  slipway login https://slipway.example:8443 --user alice\n" +
			"  slipway login https://slipway.example:8443 --oidc",
		Args: output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.oidc && (f.user != "" || f.passwordFile != "" || f.newPasswordFile != "") {
				return output.Usagef("--oidc goes without --user and passwords: the browser asks for them")
			}
			if f.expires < 0 {
				return output.Usagef("--expires must be more than zero")
			}
			return config.login(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	f.trust.flags(flags)
	flags.StringVar(&f.user, "user", "", "name of a local account (asked for on a terminal)")
	flags.StringVar(&f.passwordFile, "password-file", "", "file with the password, or - for standard input")
	flags.StringVar(&f.newPasswordFile, "new-password-file", "", "file with the password to choose when the server asks for a change")
	flags.DurationVar(&f.expires, "expires", 0, "how long the login is valid, such as 48h (default: 12h)")
	flags.BoolVar(&f.oidc, "oidc", false, "log in with the organisation's directory, in a browser on this machine")
	return cmd
}

func (c Config) login(ctx context.Context, address string, f loginFlags) error {
	path, err := c.Kubeconfig()
	if err != nil {
		return err
	}
	server, err := serverAddress(address)
	if err != nil {
		return err
	}
	r, err := c.reach(ctx, server, f.trust)
	if err != nil {
		return err
	}
	var got granted
	if f.oidc {
		got, err = c.directoryLogin(ctx, r)
	} else {
		got, err = c.passwordLogin(ctx, r, f)
	}
	if err != nil {
		return fmt.Errorf("cannot log in to %s: %w", server, told(err))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot write kubeconfig %s: %w", path, err)
	}
	if err := gateway.WriteKubeconfig(path, server.String(), r.roots, got.Identity, got.Token); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.Streams.ErrOut, "logged in to %s as %s until %s\n", server, output.Line(got.Identity), got.Expires.Local().Format(time.DateTime))
	return err
}

func (c Config) passwordLogin(ctx context.Context, r *remote, f loginFlags) (granted, error) {
	user := f.user
	if user == "" {
		if !c.Terminal {
			return granted{}, output.Usagef("--user is missing")
		}
		var err error
		if user, err = output.Answer(ctx, c.Deps, "User name: "); err != nil {
			return granted{}, err
		}
	}
	password, err := c.password(ctx, "password", f.passwordFile, "--password-file")
	if err != nil {
		return granted{}, err
	}
	got, err := r.withPassword(ctx, user, password, f.expires)
	if !mustChange(err) || (!c.Terminal && f.newPasswordFile == "") {
		return got, err
	}
	if _, err := fmt.Fprintln(c.Streams.ErrOut, "You must choose a new password first."); err != nil {
		return granted{}, err
	}
	chosen, err := c.newPassword(ctx, "new password", f.newPasswordFile, "--new-password-file")
	if err != nil {
		return granted{}, err
	}
	if err := r.changeForced(ctx, user, password, chosen); err != nil {
		return granted{}, err
	}
	return r.withPassword(ctx, user, chosen, f.expires)
}

// withPassword turns a password into a token.
func (r *remote) withPassword(ctx context.Context, user, password string, life time.Duration) (granted, error) {
	body := map[string]any{"user": user, "password": password, "token": true}
	if host, err := os.Hostname(); err == nil {
		body["name"] = tokenName("slipway login on " + host)
	}
	if life > 0 {
		body["expiresInHours"] = life.Hours()
	}
	var got granted
	return got, r.call(ctx, "POST", "slipway/v1/login", body, &got)
}

// tokenName cuts a name to what a server takes.
func tokenName(name string) string { return name[:min(len(name), 64)] }

// changeForced changes a password that opens nothing but its own change, by a session that ends with it.
func (r *remote) changeForced(ctx context.Context, user, password, chosen string) error {
	if err := r.call(ctx, "POST", "slipway/v1/login", map[string]string{"user": user, "password": password}, nil); err != nil {
		return err
	}
	if err := r.call(ctx, "POST", "slipway/v1/me/password", map[string]string{"current": password, "new": chosen}, nil); err != nil {
		return err
	}
	err := r.call(ctx, "POST", "slipway/v1/logout", nil, nil)
	r.cookies = nil
	return err
}
