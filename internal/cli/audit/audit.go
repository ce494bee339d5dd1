// Package audit owns the command `slipway audit`: searching, exporting and verifying the audit log. It must never
// write to a log.
package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/cli/output"
)

// New gives the command `audit` with its sub-commands. dataDir is where a server on this machine keeps its data unless
// told otherwise.
func New(deps output.Deps, dataDir string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Who did what: search, export and verify the audit log",
	}
	return output.Noun(cmd, newList(deps), newExport(deps), newVerify(deps, dataDir))
}

func newExport(deps output.Deps) *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print the whole audit log as JSON lines",
		Long: "Print the whole audit log as JSON lines, with what `slipway audit verify --file` needs. The head that is printed\n" +
			"to standard error stands for every line: note it down elsewhere, and nobody can change or cut the log unnoticed.",
		Args: output.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			connection, err := deps.Connect("")
			if err != nil {
				return err
			}
			stream, err := connection.REST.Get().AbsPath("slipway", "v1", "audit", "export").SetHeader("Accept", "application/x-ndjson").Stream(cmd.Context())
			if err != nil {
				return fmt.Errorf("cannot export the audit log: %w", err)
			}
			// What was read is read.
			defer func() { _ = stream.Close() }()
			count, last, err := copyLines(deps.Streams.Out, stream)
			if err != nil {
				return fmt.Errorf("cannot export the audit log: %w", err)
			}
			_, err = fmt.Fprintf(deps.Streams.ErrOut, "%d lines; head %s\n", count, audit.Head{Seq: last.Seq, Hash: last.Hash})
			return err
		},
	}
}

// copyLines passes lines on, and gives how many there were and the last of them.
func copyLines(to io.Writer, from io.Reader) (count int, last audit.Line, err error) {
	lines := bufio.NewReaderSize(from, 1<<16)
	var line []byte
	for {
		next, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(next) > 0 {
				return count, last, fmt.Errorf("the server's answer ends in the middle of a line: %w", io.ErrUnexpectedEOF)
			}
			break
		}
		if err != nil {
			return count, last, err
		}
		if _, err := to.Write(next); err != nil {
			return count, last, err
		}
		count++
		line = next
	}
	if count == 0 {
		return 0, last, errors.New("the server's answer is empty")
	}
	if err := json.Unmarshal(line, &last); err != nil {
		return count, last, fmt.Errorf("cannot read the last line: %w", err)
	}
	return count, last, nil
}
