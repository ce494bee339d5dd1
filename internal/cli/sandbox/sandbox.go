// Package sandbox owns the command `slipway sandbox`, which makes and removes test hosts on the machine it runs
// on. It must never talk to the API itself: registering hosts is a function given to it.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"slipway.dev/slipway/internal/sandbox"
)

const notice = "A sandbox is no security boundary: root on a sandbox host can become root on this machine."

// Register puts hosts into the API with the private login key (OpenSSH PEM) as their credential. It must be
// harmless for hosts that are registered already.
type Register func(ctx context.Context, hosts []sandbox.Host, keyPEM []byte) error

// New gives the command `sandbox` with its sub-commands. register serves `up --register`; nil leaves that flag out.
// dataDir is the default of --data-dir, the server data directory that the sandbox belongs to.
func New(register Register, dataDir string) *cobra.Command {
	var where place
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Make real test hosts on this Linux machine",
		Long: "Make real test hosts on this Linux machine: system containers with systemd, sshd, a network, a disk and a\n" +
			"memory limit of their own, reached by SSH like any other host. Needs root.\n\n" + notice,
		Args: cobra.NoArgs,
	}
	flags := cmd.PersistentFlags()
	flags.StringVar(&where.dataDir, "data-dir", dataDir, "server data directory that the sandbox belongs to")
	flags.StringVar(&where.dir, "dir", "", "sandbox directory (default: folder sandbox in --data-dir)")
	cmd.AddCommand(newUp(&where, register), newList(&where), newDown(&where),
		newPower(&where, "start", "Start a stopped host and wait until it answers", sandbox.Start),
		newPower(&where, "stop", "Shut a host down cleanly", sandbox.Stop),
		newPower(&where, "reboot", "Reboot a host and wait until it answers", sandbox.Reboot),
		newPower(&where, "kill", "End a host as a power loss does", sandbox.Kill))
	return cmd
}

// place is where the sandbox is.
type place struct {
	dataDir, dir string
}

func (p place) path() (string, error) {
	if p.dir != "" {
		return p.dir, nil
	}
	if p.dataDir == "" {
		return "", errors.New("cannot find the sandbox: set --data-dir or --dir")
	}
	return filepath.Join(p.dataDir, "sandbox"), nil
}

func newUp(where *place, register Register) *cobra.Command {
	var options sandbox.Options
	var disk, memory, output string
	var enlist bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Make the hosts that are missing and start those that are stopped",
		Long: "Make the hosts that are missing and start those that are stopped; running hosts stay as they are.\n" +
			"The first run makes a base root file system from Debian packages and keeps it for later runs.\n\n" + notice,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if options.Dir, err = where.path(); err != nil {
				return err
			}
			if err := checkOutput(output); err != nil {
				return err
			}
			if options.Disk, err = parseBytes("--disk", disk); err != nil {
				return err
			}
			if options.Memory, err = parseBytes("--memory", memory); err != nil {
				return err
			}
			options.Progress = progressTo(cmd.ErrOrStderr())
			options.Progress(notice)
			hosts, err := sandbox.Up(cmd.Context(), options)
			if err != nil {
				return err
			}
			if enlist {
				if err := enlistHosts(cmd.Context(), register, hosts); err != nil {
					return err
				}
			}
			return printHosts(cmd.OutOrStdout(), output, hosts)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&options.Hosts, "hosts", 3, "how many hosts there shall be")
	flags.StringVar(&options.Prefix, "prefix", "sandbox-", "what host names start with")
	flags.StringVar(&disk, "disk", "20Gi", "size of each new host's file system, sparse")
	flags.StringVar(&memory, "memory", "4Gi", "memory limit of each new host")
	flags.StringVar(&options.Mirror, "mirror", "", "Debian mirror for the base root file system (default: Debian's own)")
	flags.StringVarP(&output, "output", "o", "table", "output format: table or json")
	if register != nil {
		flags.BoolVar(&enlist, "register", false, "register the hosts and their login key in the API")
	}
	return cmd
}

// enlistHosts hands the hosts and their key over to the API.
func enlistHosts(ctx context.Context, register Register, hosts []sandbox.Host) error {
	if len(hosts) == 0 {
		return nil
	}
	key, err := os.ReadFile(hosts[0].KeyFile)
	if err != nil {
		return fmt.Errorf("cannot read the sandbox login key: %w", err)
	}
	if err := register(ctx, hosts, key); err != nil {
		return fmt.Errorf("cannot register the sandbox hosts: %w", err)
	}
	return nil
}

func newList(where *place) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the hosts of the sandbox",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := where.path()
			if err != nil {
				return err
			}
			if err := checkOutput(output); err != nil {
				return err
			}
			hosts, err := sandbox.List(dir)
			if err != nil {
				return err
			}
			return printHosts(cmd.OutOrStdout(), output, hosts)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "output format: table or json")
	return cmd
}

func newDown(where *place) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove the hosts and every trace of them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := where.path()
			if err != nil {
				return err
			}
			return sandbox.Down(cmd.Context(), dir, progressTo(cmd.ErrOrStderr()))
		},
	}
}

func newPower(where *place, verb, short string, act func(ctx context.Context, dir, name string) error) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := where.path()
			if err != nil {
				return err
			}
			return act(cmd.Context(), dir, args[0])
		},
	}
}

// progressTo prints one line for each message; hosts are made at the same time.
func progressTo(w io.Writer) func(string) {
	var mutex sync.Mutex
	return func(message string) {
		mutex.Lock()
		defer mutex.Unlock()
		// Progress that cannot be shown must not stop the work.
		_, _ = fmt.Fprintln(w, message)
	}
}

func parseBytes(flag, text string) (int64, error) {
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return 0, fmt.Errorf("cannot read %s %q (for example 20Gi): %w", flag, text, err)
	}
	if quantity.Sign() <= 0 {
		return 0, fmt.Errorf("cannot use %s %q: it must be more than zero", flag, text)
	}
	return quantity.Value(), nil
}

func checkOutput(format string) error {
	if format != "table" && format != "json" {
		return fmt.Errorf("cannot print as %q: use -o table or -o json", format)
	}
	return nil
}

func printHosts(w io.Writer, format string, hosts []sandbox.Host) error {
	if format == "json" {
		if hosts == nil {
			hosts = []sandbox.Host{}
		}
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(hosts)
	}
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	rows := [][]string{{"NAME", "STATE", "ADDRESS", "PORT", "USER", "MEMORY", "DISK"}}
	for _, host := range hosts {
		state := "stopped"
		if host.Running {
			state = "running"
		}
		rows = append(rows, []string{host.Name, state, host.Address, strconv.Itoa(host.Port), host.User,
			formatBytes(host.Memory), formatBytes(host.Disk)})
	}
	for _, row := range rows {
		for i, cell := range row {
			end := "\t"
			if i == len(row)-1 {
				end = "\n"
			}
			if _, err := fmt.Fprint(table, cell, end); err != nil {
				return err
			}
		}
	}
	return table.Flush()
}

func formatBytes(bytes int64) string {
	return resource.NewQuantity(bytes, resource.BinarySI).String()
}
