package login

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/internal/cli/output"
)

// scope is what a token may be used for.
type scope struct {
	ReadOnly bool     `json:"readOnly,omitempty"`
	Projects []string `json:"projects,omitempty"`
	Cluster  string   `json:"cluster,omitempty"`
}

// String gives the scope for a person.
func (s scope) String() string {
	text := "everything you may"
	switch {
	case s.Cluster != "":
		text = "inside cluster " + s.Cluster
	case len(s.Projects) > 0:
		text = "projects " + strings.Join(s.Projects, ",")
	}
	if s.ReadOnly {
		text += ", read-only"
	}
	return text
}

// token is one token as the server lists it.
type token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Scope   scope     `json:"scope"`
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires"`
	From    string    `json:"from,omitempty"`
	Current bool      `json:"current,omitempty"`
	Token   string    `json:"token,omitempty"`
}

func newToken(config Config) *cobra.Command {
	return output.Noun(&cobra.Command{Use: "token", Short: "Personal tokens: for programs that act in your name"},
		newTokenCreate(config), newTokenList(config), newTokenRevoke(config))
}

func newTokenCreate(config Config) *cobra.Command {
	var s scope
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a personal token and print it, once",
		Long: "Make a personal token and print it to standard output. Nobody can read it again. NAME says what it is for.\n" +
			"It can do what you can, within its limits, and ends when you are disabled or change your password.",
		Example: "  slipway token create ci --project dev --expires 720h\n  slipway token create dashboard --read-only",
		Args:    output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if expires < 0 {
				return output.Usagef("--expires must be more than zero")
			}
			if s.Cluster != "" && len(s.Projects) > 0 {
				return output.Usagef("--cluster goes without --project")
			}
			connection, err := config.Connect("")
			if err != nil {
				return err
			}
			var made token
			body := map[string]any{"name": args[0], "scope": s, "expiresInHours": expires.Hours()}
			if err := post(cmd.Context(), connection, body, &made, "me", "tokens"); err != nil {
				return fmt.Errorf("cannot make a token: %w", told(err))
			}
			if _, err := fmt.Fprintln(config.Streams.Out, made.Token); err != nil {
				return err
			}
			_, err = fmt.Fprintf(config.Streams.ErrOut, "token %s ends %s; revoke it: slipway token revoke %s\n", made.ID, made.Expires.Local().Format(time.DateTime), made.ID)
			return err
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&s.ReadOnly, "read-only", false, "the token may only read")
	flags.StringSliceVarP(&s.Projects, "project", "p", nil, "the token is for this project alone (repeatable)")
	flags.StringVar(&s.Cluster, "cluster", "", "the token is for the inside of one cluster alone: PROJECT/NAME")
	flags.DurationVar(&expires, "expires", 0, "how long it is valid, such as 720h (default: 30 days, or the longest that is allowed)")
	return cmd
}

func newTokenList(config Config) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List your tokens", Args: output.Args(cobra.NoArgs)}
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		connection, err := config.Connect("")
		if err != nil {
			return err
		}
		content, err := output.Raw(connection.REST.Get().AbsPath("slipway", "v1", "me", "tokens").SetHeader("Accept", "application/json").Do(cmd.Context()))
		if err != nil {
			return fmt.Errorf("cannot list tokens: %w", err)
		}
		var list struct {
			Items []token `json:"items"`
		}
		if err := json.Unmarshal(content, &list); err != nil {
			return fmt.Errorf("cannot list tokens: %w", err)
		}
		switch *format {
		case output.FormatJSON, output.FormatYAML:
			return output.PrintValue(config.Streams.Out, *format, list)
		case output.FormatName:
			for _, t := range list.Items {
				if _, err := fmt.Fprintln(config.Streams.Out, output.Line(t.ID)); err != nil {
					return err
				}
			}
			return nil
		}
		rows := [][]string{{"ID", "NAME", "FOR", "ENDS", "FROM", "IN USE"}}
		for _, t := range list.Items {
			row := []string{t.ID, t.Name, t.Scope.String(), t.Expires.UTC().Format("2006-01-02 15:04Z"), t.From, ""}
			if t.Current {
				row[5] = "now"
			}
			rows = append(rows, row)
		}
		return output.Table(config.Streams.Out, "", rows...)
	}
	return cmd
}

func newTokenRevoke(config Config) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID...",
		Short: "End tokens of yours at once",
		Args:  output.Args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			connection, err := config.Connect("")
			if err != nil {
				return err
			}
			for _, id := range args {
				if err := connection.REST.Delete().AbsPath("slipway", "v1", "me", "tokens", id).Do(cmd.Context()).Error(); err != nil {
					return fmt.Errorf("cannot revoke token %s: %w", output.Line(id), err)
				}
				if _, err := fmt.Fprintf(config.Streams.Out, "token %s revoked\n", id); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
