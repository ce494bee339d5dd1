package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/cli/output"
)

// pageLines is how many lines one request asks for at most.
const pageLines = 1000

// filters is what the flags choose.
type filters struct {
	since, until, project string
	actor, verb, object   string
	result, contains      string
	limit                 int
	oldest, people        bool
}

func newList(deps output.Deps) *cobra.Command {
	var f filters
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "search"},
		Short:   "List lines of the audit log, the newest first",
		Long: "List lines of the audit log, the newest first. System administrators and auditors see all lines,\n" +
			"administrators of a project those of their project with --project.",
		Args: output.Args(cobra.NoArgs),
	}
	format := output.FormatFlag(cmd, output.FormatWide, output.FormatJSON, output.FormatYAML)
	flags := cmd.Flags()
	flags.StringVar(&f.since, "since", "", "from this time on: 2025-03-01, 2025-03-01T12:00:00Z, or how long ago as 24h")
	flags.StringVar(&f.until, "until", "", "before this time, in the same forms")
	flags.StringVarP(&f.project, "project", "p", "", "only lines of this project")
	flags.StringVar(&f.actor, "actor", "", "only what this person did")
	flags.StringVar(&f.verb, "verb", "", "only this verb, such as create, login or use-credential")
	flags.StringVar(&f.object, "object", "", "only objects with this in them, such as clusters or dev/blue")
	flags.StringVar(&f.result, "result", "", "only Allowed, Refused or Failed")
	flags.StringVar(&f.contains, "contains", "", "only lines with this text anywhere")
	flags.IntVar(&f.limit, "limit", 50, "how many lines; 0 means all")
	flags.BoolVar(&f.people, "people", false, "without what the server does by itself")
	flags.BoolVar(&f.oldest, "oldest", false, "the oldest first")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		values, err := f.values(deps.Clock())
		if err != nil {
			return err
		}
		connection, err := deps.Connect("")
		if err != nil {
			return err
		}
		lines, err := f.ask(cmd.Context(), connection, values)
		if err != nil {
			return fmt.Errorf("cannot list the audit log: %w", err)
		}
		return printLines(deps, *format, lines)
	}
	return cmd
}

// values gives the parameters of a request.
func (f filters) values(now time.Time) (map[string]string, error) {
	if f.limit < 0 {
		return nil, output.Usagef("cannot list %d lines: give --limit 0 for all", f.limit)
	}
	values := map[string]string{"actor": f.actor, "verb": f.verb, "object": f.object, "result": f.result, "contains": f.contains}
	for name, text := range map[string]string{"since": f.since, "until": f.until} {
		if ago, err := time.ParseDuration(text); err == nil {
			text = now.Add(-ago).UTC().Format(time.RFC3339)
		}
		values[name] = text
	}
	if f.people {
		values["people"] = "true"
	}
	if f.oldest {
		values["order"] = "oldest"
	}
	maps.DeleteFunc(values, func(_, value string) bool { return value == "" })
	return values, nil
}

// ask reads pages until there are enough lines.
func (f filters) ask(ctx context.Context, connection *output.Connection, values map[string]string) ([]json.RawMessage, error) {
	path := []string{"slipway", "v1", "audit"}
	if f.project != "" {
		path = []string{"slipway", "v1", "projects", f.project, "audit"}
	}
	var lines []json.RawMessage
	after := uint64(0)
	for {
		request := connection.REST.Get().AbsPath(path...).SetHeader("Accept", "application/json")
		for _, name := range slices.Sorted(maps.Keys(values)) {
			request = request.Param(name, values[name])
		}
		limit := pageLines
		if f.limit > 0 {
			limit = min(limit, f.limit-len(lines))
		}
		request = request.Param("limit", strconv.Itoa(limit))
		if after > 0 {
			request = request.Param("after", strconv.FormatUint(after, 10))
		}
		raw, err := output.Raw(request.Do(ctx))
		if err != nil {
			return nil, err
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  uint64            `json:"next"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, fmt.Errorf("cannot read the server's answer: %w", err)
		}
		lines = append(lines, page.Items...)
		if page.Next == 0 || (f.limit > 0 && len(lines) >= f.limit) {
			return lines, nil
		}
		if page.Next == after {
			return nil, fmt.Errorf("the server's answer does not go on behind line %d", after)
		}
		after = page.Next
	}
}

func printLines(deps output.Deps, format output.Format, lines []json.RawMessage) error {
	if format.Machine() {
		if lines == nil {
			lines = []json.RawMessage{}
		}
		return output.PrintValue(deps.Streams.Out, format, map[string]any{"items": lines})
	}
	if len(lines) == 0 {
		_, err := fmt.Fprintln(deps.Streams.ErrOut, "No lines.")
		return err
	}
	heading := []string{"TIME", "ACTOR", "VERB", "OBJECT", "RESULT"}
	if format == output.FormatWide {
		heading = append(heading, "CODE", "REASON", "FROM", "VIA", "DETAIL", "SEQ")
	}
	rows := [][]string{heading}
	for _, raw := range lines {
		var l audit.Line
		if err := json.Unmarshal(raw, &l); err != nil {
			return fmt.Errorf("cannot read a line of the audit log: %w", err)
		}
		e := l.Event
		actor := e.Actor
		if actor == "" {
			actor = "(nobody)"
		}
		row := []string{e.Time.UTC().Format(time.DateTime), actor, e.Verb, e.Object, string(e.Result)}
		if format == output.FormatWide {
			code := ""
			if e.Code != 0 {
				code = strconv.Itoa(e.Code)
			}
			row = append(row, code, e.Reason, e.From, e.Via, details(e.Detail), strconv.FormatUint(l.Seq, 10))
		}
		rows = append(rows, row)
	}
	return output.Table(deps.Streams.Out, "", rows...)
}

func details(detail map[string]string) string {
	texts := make([]string, 0, len(detail))
	for _, key := range slices.Sorted(maps.Keys(detail)) {
		texts = append(texts, key+"="+detail[key])
	}
	return strings.Join(texts, " ")
}
