// Package server owns the command `slipway server` and what is done to a server's keys while it stands still. It must
// never do more than read flags: the app does the work.
package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/internal/cli/output"
)

// Options is what the flags say.
type Options struct {
	// DataDir holds everything the server keeps.
	DataDir string
	// EncryptionKeyDir holds the key that encrypts Secrets; empty means the folder keys in DataDir.
	EncryptionKeyDir string
	// TLSCert, TLSKey and TLSCA are the files of the organisation's certificate; empty means the server's own.
	TLSCert, TLSKey, TLSCA string
	// Bundles is the bundle store; empty means the folder bundles in DataDir.
	Bundles string
	// Listen is HOST:PORT of the one TLS port.
	Listen string
	// Names are more names and addresses by which people reach the server.
	Names []string
	// Log takes what the server has to say.
	Log *slog.Logger
	// Ready is called once the server answers.
	Ready func(url string)
	// Trust is called after Ready with the fingerprints of the certificate authorities that clients must trust.
	Trust func(fingerprints []string)
	// SetUp is called once the server answers, with the one-time link by which admin gets a password, while there is none.
	SetUp func(link string)
}

// Actions is what the command and those below it do.
type Actions struct {
	// Run runs a server until its context ends.
	Run func(context.Context, Options) error
	// RotateKey gives a server that stands still a new encryption key, and gives the path of the file.
	RotateKey func(dataDir, keyDir string) (string, error)
	// RotateAdminToken gives a server that stands still a new admin token.
	RotateAdminToken func(dataDir string) error
}

// New gives the command.
func New(actions Actions, out, errOut io.Writer, defaultDataDir string) *cobra.Command {
	var o Options
	var format, level string
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the Slipway server on this machine",
		Long: "Run the Slipway server on this machine: the API, its store, the controllers and the bundle registry in one process.\n" +
			"The file admin.kubeconfig in the data directory lets root of this machine in.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logger(errOut, format, level)
			if err == nil {
				err = o.checkTLS()
			}
			if err != nil {
				return err
			}
			o.Log = log
			o.Ready = func(url string) {
				// A broken pipe there is no reason to stop serving.
				_, _ = fmt.Fprintf(out, "serving %s\nadmin kubeconfig: %s/admin.kubeconfig\n", url, o.DataDir)
			}
			o.Trust = func(fingerprints []string) {
				_, _ = fmt.Fprintf(out, "certificate authority: %s\n", strings.Join(fingerprints, ", "))
			}
			o.SetUp = func(link string) {
				_, _ = fmt.Fprintf(out, "set-up link, for one use within the hour: %s\n", link)
			}
			return actions.Run(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.DataDir, "data-dir", defaultDataDir, "directory that holds everything the server keeps")
	flags.StringVar(&o.EncryptionKeyDir, "encryption-key-dir", "", "directory of the key that encrypts Secrets, such as a mounted secret (default: folder keys in --data-dir)")
	flags.StringVar(&o.TLSCert, "tls-cert", "", "the organisation's certificate for the port, in PEM, with the certificates that lead to its root")
	flags.StringVar(&o.TLSKey, "tls-key", "", "private key of --tls-cert")
	flags.StringVar(&o.TLSCA, "tls-ca", "", "root of --tls-cert, which hosts and kubeconfigs will trust; not needed when --tls-cert ends with it")
	flags.StringVar(&o.Bundles, "bundles", "", "bundle store (default: folder bundles in --data-dir)")
	flags.StringVar(&o.Listen, "listen", "0.0.0.0:8443", "address of the one TLS port")
	flags.StringSliceVar(&o.Names, "name", nil, "more names or addresses by which people reach the server (repeatable)")
	flags.StringVar(&format, "log-format", "text", "text or json")
	flags.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	cmd.AddCommand(newRotateKey(actions, out, defaultDataDir), newRotateAdminToken(actions, out, defaultDataDir))
	return cmd
}

func logger(out io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	// Below debug the libraries log the bodies of requests, Secrets among them.
	if err := l.UnmarshalText([]byte(level)); err != nil || l < slog.LevelDebug {
		return nil, fmt.Errorf("cannot use --log-level %q: choose debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(out, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(escaping{out}, options)), nil
	default:
		return nil, fmt.Errorf("cannot use --log-format %q: choose text or json", format)
	}
}

// escaping writes JSON without anything that steers a terminal, such as a host may send.
type escaping struct{ io.Writer }

// Write passes p on, escaped.
func (e escaping) Write(p []byte) (int, error) {
	if _, err := e.Writer.Write(output.EscapeJSON(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}
