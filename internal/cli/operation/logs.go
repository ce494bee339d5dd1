package operation

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/internal/cli/output"
)

func newLogs(deps output.Deps, project *string) *cobra.Command {
	var follow, full bool
	var host string
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Print the log of an operation: what was done on each host, and what failed commands said",
		Args:  output.Args(cobra.ExactArgs(1)),
	}
	format := output.FormatFlag(cmd, output.FormatJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		connection, err := deps.Connect(*project)
		if err != nil {
			return err
		}
		out := deps.Streams.Out
		err = connection.Logs(cmd.Context(), args[0], host, follow, func(line output.LogLine, raw []byte) error {
			if *format == output.FormatJSON {
				_, err := out.Write(output.EscapeJSON(raw))
				return err
			}
			return printLine(out, line, full)
		})
		return output.WaitError(err, "the end of operation "+args[0], "the operation goes on on the server")
	}
	flags := cmd.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "go on until the operation ends")
	flags.StringVar(&host, "host", "", "only this host")
	flags.BoolVar(&full, "full", false, "also print what commands said that did not fail")
	return cmd
}

// printLine prints one line of the log, and below it what a command said.
func printLine(w io.Writer, line output.LogLine, full bool) error {
	var text strings.Builder
	text.WriteString(line.Time.UTC().Format(time.TimeOnly))
	where := line.Host
	if line.Step != "" {
		where = strings.TrimSpace(where + " " + line.Step)
	}
	if line.Attempt > 1 {
		where += fmt.Sprintf(" (attempt %d)", line.Attempt)
	}
	if where != "" {
		text.WriteString(" " + output.Line(where) + ":")
	}
	if level := strings.ToUpper(line.Level); level != "" && level != "INFO" && level != "DEBUG" {
		text.WriteString(" " + output.Line(level))
	}
	if line.Message != "" {
		text.WriteString(" " + output.Line(line.Message))
	}
	if len(line.Argv) > 0 {
		text.WriteString(" $ " + output.Line(quote(line.Argv)))
		if line.ExitCode != 0 {
			fmt.Fprintf(&text, " (exit code %d)", line.ExitCode)
		}
	}
	text.WriteByte('\n')
	if full || line.ExitCode != 0 {
		for _, said := range []string{line.Stdout, line.Stderr} {
			for one := range strings.Lines(said) {
				text.WriteString("    | " + strings.TrimRight(output.Clean(one), "\n") + "\n")
			}
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// quote shows where each argument ends.
func quote(argv []string) string {
	shown := make([]string, len(argv))
	for i, a := range argv {
		shown[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n\"'\\$") {
			shown[i] = fmt.Sprintf("%q", a)
		}
	}
	return strings.Join(shown, " ")
}
