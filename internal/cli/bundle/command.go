package bundle

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/cli/output"
)

// storeDir is where a server's data directory keeps bundles.
const storeDir = "bundles"

// location is the flags that say which store is meant.
type location struct {
	dataDir string
	out     string
}

// NewCommand makes `slipway bundle`. Its commands act on the directory DATA-DIR/bundles, or on the store that --store
// names.
func NewCommand() *cobra.Command {
	where := &location{}
	command := &cobra.Command{
		Use:   "bundle",
		Short: "Build, check and move bundles of Kubernetes packages and images",
		Args:  cobra.NoArgs,
	}
	flags := command.PersistentFlags()
	flags.StringVar(&where.dataDir, "data-dir", "/var/lib/slipway-server", "data directory of the server; bundles are in its folder bundles")
	flags.StringVar(&where.out, "store", "", "bundle store to use instead of the data directory's")
	command.AddCommand(
		newBuildCommand(where), newListCommand(where), newVerifyCommand(where), newExportCommand(where), newImportCommand(where),
	)
	return command
}

func (l *location) dir() string {
	if l.out != "" {
		return l.out
	}
	return filepath.Join(l.dataDir, storeDir)
}

func (l *location) open() (*bundle.Store, error) { return bundle.Open(l.dir()) }

// row is one bundle as `bundle list` shows it.
type row struct {
	Name          string            `json:"name"`
	Digest        string            `json:"digest"`
	Architectures []string          `json:"architectures,omitempty"`
	Components    map[string]string `json:"components,omitempty"`
	Size          int64             `json:"size"`
	Problem       string            `json:"problem,omitempty"`
}

func newListCommand(where *location) *cobra.Command {
	var output string
	command := &cobra.Command{
		Use:   "list",
		Short: "List the bundles of the store",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := where.open()
			if err != nil {
				return err
			}
			entries, err := store.List(cmd.Context())
			if err != nil {
				return err
			}
			rows := []row{}
			for _, entry := range entries {
				r := row{Name: entry.Name, Digest: entry.Digest.String()}
				if manifest, err := store.Get(cmd.Context(), entry.Name); err != nil {
					r.Problem = err.Error()
				} else {
					r.fill(manifest)
				}
				rows = append(rows, r)
			}
			return printRows(cmd.OutOrStdout(), rows, output)
		},
	}
	command.Flags().StringVarP(&output, "output", "o", "", "output format: wide, name, json or yaml; by default a table")
	return command
}

func (r *row) fill(m *bundle.Manifest) {
	r.Architectures, r.Components = m.Architectures, m.Components
	for _, image := range m.Images {
		r.Size += image.Size
	}
	for _, file := range m.Files {
		r.Size += file.Size
	}
}

func printRows(w io.Writer, rows []row, format string) error {
	switch format {
	case "json", "yaml":
		return output.PrintValue(w, output.Format(format), rows)
	case "name":
		for _, r := range rows {
			if _, err := fmt.Fprintln(w, output.Line(r.Name)); err != nil {
				return err
			}
		}
		return nil
	case "", "wide":
		return printTable(w, rows, format == "wide")
	}
	return fmt.Errorf("cannot print bundles as %q: choose wide, name, json or yaml", format)
}

func printTable(w io.Writer, rows []row, wide bool) error {
	table := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	header := "NAME\tARCHITECTURES\tSIZE\tETCD\tCOREDNS\tCONTAINERD"
	if wide {
		header += "\tRUNC\tCNI-PLUGINS\tFLANNEL\tDIGEST"
	}
	_, err := fmt.Fprintln(table, header)
	for _, r := range rows {
		if r.Problem != "" {
			_, lineErr := fmt.Fprintf(table, "%s\tdamaged: %s\n", output.Line(r.Name), output.Line(r.Problem))
			err = errors.Join(err, lineErr)
			continue
		}
		c := r.Components
		line := fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", r.Name, joined(r.Architectures), megabytes(r.Size), c["etcd"], c["coredns"], c["containerd"])
		if wide {
			line += fmt.Sprintf("\t%s\t%s\t%s\t%s", c["runc"], c["cni-plugins"], c["flannel"], r.Digest)
		}
		_, lineErr := fmt.Fprintln(table, line)
		err = errors.Join(err, lineErr)
	}
	return errors.Join(err, table.Flush())
}

func joined(list []string) string {
	out := ""
	for n, s := range list {
		if n > 0 {
			out += ","
		}
		out += s
	}
	return out
}

func megabytes(bytes int64) string { return fmt.Sprintf("%d MB", (bytes+500_000)/1_000_000) }

func newVerifyCommand(where *location) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [NAME...]",
		Short: "Read every byte of bundles and check digests, completeness and architecture",
		RunE: func(cmd *cobra.Command, names []string) error {
			store, err := where.open()
			if err != nil {
				return err
			}
			if len(names) == 0 {
				entries, err := store.List(cmd.Context())
				if err != nil {
					return err
				}
				for _, entry := range entries {
					names = append(names, entry.Name)
				}
			}
			var problems []error
			for _, name := range names {
				started := time.Now()
				if err := store.Verify(cmd.Context(), name, nil); err != nil {
					problems = append(problems, err)
					continue
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "bundle %s is complete and undamaged (%s)\n", name, seconds(time.Since(started))); err != nil {
					return err
				}
			}
			return errors.Join(problems...)
		},
	}
}

func newExportCommand(where *location) *cobra.Command {
	return &cobra.Command{
		Use:   "export NAME FILE",
		Short: "Write a bundle to one file, to carry it to a machine without network (- is standard output)",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := where.open()
			if err != nil {
				return err
			}
			if args[1] == "-" {
				return store.Export(cmd.Context(), args[0], cmd.OutOrStdout(), nil)
			}
			return exportFile(cmd, store, args[0], args[1])
		},
	}
}

// exportFile writes beside the target first, so that a cut-off export never looks like a whole one.
func exportFile(cmd *cobra.Command, store *bundle.Store, name, path string) (err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("cannot export bundle %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	err = store.Export(cmd.Context(), name, temporary, nil)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(temporary.Name(), 0o644), os.Rename(temporary.Name(), path)); err != nil {
		return fmt.Errorf("cannot export bundle %s: %w", name, err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "bundle %s exported to %s\n", name, path)
	return err
}

func newImportCommand(where *location) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "Read a bundle from a file and add it when it verifies (- is standard input)",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			store, err := where.open()
			if err != nil {
				return err
			}
			in := cmd.InOrStdin()
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("cannot import bundle: %w", err)
				}
				defer func() { err = errors.Join(err, file.Close()) }()
				in = file
			}
			names, err := store.Import(cmd.Context(), in, nil)
			if err != nil {
				return err
			}
			for _, name := range names {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "bundle %s imported\n", name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
