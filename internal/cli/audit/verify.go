package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/pki"
)

// ReasonAuditBroken is the reason of the error that a log is not as it was written.
const ReasonAuditBroken = "AuditLogBroken"

// source is what the flags say about what to verify.
type source struct{ dataDir, file, key, head string }

func newVerify(deps output.Deps, dataDir string) *cobra.Command {
	var s source
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Say whether an audit log is as it was written",
		Long: "Say whether an audit log is as it was written: that of a server on this machine (--data-dir), or an export (--file).\n" +
			"No server is asked. With the key of the server a line that someone else wrote is found; with a head that was noted\n" +
			"down earlier (--head) also a log that was cut off at its end, and one that was written anew by who has the key.",
		Args: output.Args(cobra.NoArgs),
	}
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML)
	flags := cmd.Flags()
	flags.StringVar(&s.dataDir, "data-dir", dataDir, "data directory of the server")
	flags.StringVar(&s.file, "file", "", "an export; - means standard input")
	flags.StringVar(&s.key, "key", "", "file with the server's key (default: "+audit.KeyName+" in --data-dir, and none with --file)")
	flags.StringVar(&s.head, "head", "", "SEQ:HASH that was noted down earlier")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("data-dir") && s.file != "" {
			return output.Usagef("cannot verify a data directory and a file at once: give one")
		}
		check, err := s.check()
		if err != nil {
			return err
		}
		report, err := s.verify(deps.Streams.In, check)
		if err != nil {
			return err
		}
		if err := printReport(deps.Streams.Out, *format, report, check); err != nil {
			return err
		}
		if err := report.Err(); err != nil {
			return fault.NewTerminal(ReasonAuditBroken, "keep a copy of the files as they are, and compare them with an export or a backup from before", err)
		}
		return nil
	}
	return cmd
}

func (s source) check() (audit.Check, error) {
	var check audit.Check
	if s.head != "" {
		head, err := audit.ParseHead(s.head)
		if err != nil {
			return check, output.WithCode(output.ExitUsage, err)
		}
		check.Head = &head
	}
	path := s.key
	if path == "" && s.file == "" {
		path = filepath.Join(s.dataDir, audit.KeyName)
	}
	if path == "" {
		return check, nil
	}
	key, err := pki.ReadPrivate(path)
	if errors.Is(err, fs.ErrNotExist) && s.key == "" {
		return check, nil // The report says that nothing is known of the key.
	}
	if err != nil {
		return check, fmt.Errorf("cannot verify the audit log: %w", err)
	}
	check.Key = bytes.TrimSpace(key)
	return check, nil
}

func (s source) verify(in io.Reader, check audit.Check) (audit.Report, error) {
	switch s.file {
	case "":
		return audit.VerifyDir(filepath.Join(s.dataDir, audit.DirName), check)
	case "-":
		return audit.Verify(in, check)
	}
	file, err := os.Open(s.file)
	if err != nil {
		return audit.Report{}, fmt.Errorf("cannot verify the audit log: %w", err)
	}
	// It was only read.
	defer func() { _ = file.Close() }()
	return audit.Verify(file, check)
}

func printReport(out io.Writer, format output.Format, r audit.Report, check audit.Check) error {
	if format.Machine() {
		return output.PrintValue(out, format, r)
	}
	rows := [][]string{{"lines:", fmt.Sprintf("%d, from %d to %d", r.Lines, r.First.Seq, r.Last.Seq)}}
	add := func(name, format string, values ...any) {
		rows = append(rows, []string{name, fmt.Sprintf(format, values...)})
	}
	if r.Removed > 0 {
		add("removed:", "%d lines before these, by the server as its retention says", r.Removed)
	}
	if r.Torn > 0 {
		add("torn:", "%d times the server ended in the middle of a line, and said so later", r.Torn)
	}
	if r.Unfinished > 0 {
		add("unfinished:", "%d bytes at the end: the server is writing, or was ended while it did", r.Unfinished)
	}
	switch {
	case check.Key == nil:
		add("key:", "not looked at: without it a log that was written anew from the start looks like this too; give --key or --head")
	case r.Signed:
		add("key:", "every line was written by the server that has it")
	}
	if check.Head != nil && r.Count == 0 {
		add("noted head:", "line %d is the one that was noted down", check.Head.Seq)
	}
	if r.Lines > 0 {
		add("head:", "%s", r.Last)
	}
	for _, problem := range r.Problems {
		add("problem:", "%s", problem)
	}
	if more := r.Count - len(r.Problems); more > 0 {
		add("problem:", "and %d more", more)
	}
	return output.Table(out, "", rows...)
}
