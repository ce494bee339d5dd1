package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/component-base/version"
	"k8s.io/klog/v2"

	"slipway.dev/slipway/internal/cli/audit"
	"slipway.dev/slipway/internal/cli/backup"
	"slipway.dev/slipway/internal/cli/bundle"
	"slipway.dev/slipway/internal/cli/cluster"
	"slipway.dev/slipway/internal/cli/grant"
	"slipway.dev/slipway/internal/cli/host"
	"slipway.dev/slipway/internal/cli/kubectl"
	"slipway.dev/slipway/internal/cli/login"
	"slipway.dev/slipway/internal/cli/operation"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/project"
	"slipway.dev/slipway/internal/cli/sandbox"
	"slipway.dev/slipway/internal/cli/server"
	usercli "slipway.dev/slipway/internal/cli/user"
	"slipway.dev/slipway/internal/controlplane"
	"slipway.dev/slipway/internal/pki"
)

// Version is this binary's version; the build sets it.
//
//nolint:gochecknoglobals // Only the linker writes it.
var Version = "0.1.0-dev"

// defaultDataDir is where a server keeps everything unless told otherwise.
const defaultDataDir = "/var/lib/slipway-server"

// Main runs one command line and gives its exit code.
func Main(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	cmd := command(genericiooptions.IOStreams{In: in, Out: out, ErrOut: errOut})
	cmd.SetArgs(args)
	return int(output.Report(errOut, cmd.ExecuteContext(ctx)))
}

func command(streams genericiooptions.IOStreams) *cobra.Command {
	root := &cobra.Command{
		Use:           "slipway",
		Short:         "Plan, deploy and operate Kubernetes clusters on machines you have",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       fmt.Sprintf("%s (Kubernetes API %s)", Version, version.Get().GitVersion),
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	klog.SetOutput(streams.ErrOut)
	flags := kubectl.NewFlags()
	flags.AddFlags(root.PersistentFlags())
	getter := kubectl.Getter(flags, defaultKubeconfig)
	deps := output.Deps{Streams: streams, Terminal: isTerminal(streams), Connect: output.Connect(getter)}
	root.AddCommand(
		server.New(server.Actions{Run: runServer, RotateKey: controlplane.RotateKey, RotateAdminToken: rotateAdminToken}, streams.Out, streams.ErrOut, defaultDataDir),
		sandbox.New(sandbox.Registrar(deps), defaultDataDir),
		bundle.NewCommand(),
		host.New(deps),
		cluster.New(deps),
		backup.New(deps),
		operation.New(deps),
		project.New(deps),
		usercli.New(deps),
		grant.New(deps),
		audit.New(deps, defaultDataDir),
		newVersion(deps),
	)
	root.AddCommand(login.New(login.Config{Deps: deps, Kubeconfig: personalKubeconfig})...)
	root.AddCommand(kubectl.Commands("slipway", kubectl.Factory(flags, defaultKubeconfig), streams)...)
	return root
}

func runServer(ctx context.Context, o server.Options) error {
	return RunServer(ctx, ServerOptions{
		DataDir: o.DataDir, EncryptionKeyDir: o.EncryptionKeyDir, Bundles: o.Bundles, Listen: o.Listen, Names: o.Names,
		Certificate: pki.CertificateFiles{Certificate: o.TLSCert, Key: o.TLSKey, CA: o.TLSCA},
		Version:     Version, Log: o.Log, Ready: o.Ready, Trust: o.Trust, SetUp: o.SetUp,
	})
}

// personalKubeconfig is where `slipway login` keeps the login.
func personalKubeconfig() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("cannot find the home directory: %w", err)
	}
	return filepath.Join(home, ".slipway", "kubeconfig"), nil
}

// defaultKubeconfig is what a command uses on the server's own machine, or after `slipway login`.
func defaultKubeconfig() (string, error) {
	if path, err := personalKubeconfig(); err == nil && exists(path) {
		return path, nil
	}
	if path := filepath.Join(defaultDataDir, AdminKubeconfig); exists(path) {
		return path, nil
	}
	return "", nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isTerminal(streams genericiooptions.IOStreams) bool {
	for _, s := range []any{streams.In, streams.ErrOut} {
		f, ok := s.(*os.File)
		if !ok || !term.IsTerminal(int(f.Fd())) {
			return false
		}
	}
	return true
}

func newVersion(deps output.Deps) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program and of the server",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := fmt.Fprintf(deps.Streams.Out, "slipway %s, Kubernetes API %s\n", Version, version.Get().GitVersion); err != nil {
				return err
			}
			c, err := deps.Connect("")
			if err != nil {
				return nil // Without a server there is nothing more to say.
			}
			b, err := c.REST.Get().AbsPath("version").DoRaw(cmd.Context())
			if err != nil {
				return fmt.Errorf("cannot ask the server for its version: %w", err)
			}
			_, err = fmt.Fprintf(deps.Streams.Out, "server: %s\n", b)
			return err
		},
	}
}
