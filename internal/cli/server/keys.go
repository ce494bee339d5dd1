package server

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/internal/cli/output"
)

// checkTLS refuses flags that do not make a certificate.
func (o *Options) checkTLS() error {
	switch {
	case (o.TLSCert == "") != (o.TLSKey == ""):
		return output.Usagef("cannot use a certificate without its key: give --tls-cert and --tls-key")
	case o.TLSCA != "" && o.TLSCert == "":
		return output.Usagef("cannot use --tls-ca without --tls-cert")
	}
	return nil
}

func newRotateKey(actions Actions, out io.Writer, defaultDataDir string) *cobra.Command {
	var dataDir, keyDir string
	cmd := &cobra.Command{
		Use:   "rotate-key",
		Short: "Give a stopped server a new key to encrypt Secrets with",
		Long: "Give a stopped server a new key to encrypt Secrets with. The old key stays beside it until the server has been\n" +
			"started again and has rewritten every Secret; its log says when that has ended, and the old key is then gone.\n" +
			"Copies of the data that were made before need the old key: keep a copy of the key file with them.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path, err := actions.RotateKey(dataDir, keyDir)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(out, "%s has a new key in front of the old one\nstart the server: it rewrites every Secret and then drops the old key\n", path)
			return err
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", defaultDataDir, "data directory of the server")
	cmd.Flags().StringVar(&keyDir, "encryption-key-dir", "", "directory of the key, as the server has it (default: folder keys in --data-dir)")
	return cmd
}

func newRotateAdminToken(actions Actions, out io.Writer, defaultDataDir string) *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use:   "rotate-admin-token",
		Short: "Give a stopped server a new admin token",
		Long: "Give a stopped server a new admin token. The old one opens nothing any more, nor do copies of admin.kubeconfig\n" +
			"that hold it; the next start writes a new admin.kubeconfig.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := actions.RotateAdminToken(dataDir); err != nil {
				return err
			}
			_, err := fmt.Fprintf(out, "%s/admin.token is new\nstart the server: it writes a new admin.kubeconfig\n", dataDir)
			return err
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", defaultDataDir, "data directory of the server")
	return cmd
}
