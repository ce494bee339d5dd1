// Package server owns the command `slipway server`. It must never do more than read flags: the app runs the server.
package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"
)

// Options is what the flags say.
type Options struct {
	// DataDir holds everything the server keeps.
	DataDir string
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
}

// New gives the command. run runs a server until its context ends.
func New(run func(context.Context, Options) error, out, errOut io.Writer, defaultDataDir string) *cobra.Command {
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
			if err != nil {
				return err
			}
			o.Log = log
			o.Ready = func(url string) {
				// A broken pipe there is no reason to stop serving.
				_, _ = fmt.Fprintf(out, "serving %s\nadmin kubeconfig: %s/admin.kubeconfig\n", url, o.DataDir)
			}
			return run(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.DataDir, "data-dir", defaultDataDir, "directory that holds everything the server keeps")
	flags.StringVar(&o.Bundles, "bundles", "", "bundle store (default: folder bundles in --data-dir)")
	flags.StringVar(&o.Listen, "listen", "0.0.0.0:8443", "address of the one TLS port")
	flags.StringSliceVar(&o.Names, "name", nil, "more names or addresses by which people reach the server (repeatable)")
	flags.StringVar(&format, "log-format", "text", "text or json")
	flags.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func logger(out io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("cannot use --log-level %q: choose debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(out, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(out, options)), nil
	default:
		return nil, fmt.Errorf("cannot use --log-format %q: choose text or json", format)
	}
}
