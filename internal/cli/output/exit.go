package output

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"slipway.dev/slipway/internal/fault"
)

// ExitCode is what the process answers its caller with.
type ExitCode int

// The exit codes. ExitCodes says what each means.
const (
	ExitOK              ExitCode = 0
	ExitFailed          ExitCode = 1
	ExitUsage           ExitCode = 2
	ExitNotFound        ExitCode = 3
	ExitRefused         ExitCode = 4
	ExitOperationFailed ExitCode = 5
	ExitPartial         ExitCode = 6
	ExitAborted         ExitCode = 7
	ExitTimedOut        ExitCode = 8
	ExitInterrupted     ExitCode = 130
)

// ExitMeaning is one row of the table of exit codes.
type ExitMeaning struct {
	Code    ExitCode
	Meaning string
}

// ExitCodes gives every exit code with its meaning, in order: the one table that help and documentation print.
func ExitCodes() []ExitMeaning {
	return []ExitMeaning{
		{ExitOK, "done"},
		{ExitFailed, "failed for another reason than those below"},
		{ExitUsage, "the command line is wrong"},
		{ExitNotFound, "the named object does not exist"},
		{ExitRefused, "refused before anything changed: a precheck, a rule of the API, a missing right, a missing confirmation"},
		{ExitOperationFailed, "the operation failed"},
		{ExitPartial, "the operation left some hosts out"},
		{ExitAborted, "the operation was aborted"},
		{ExitTimedOut, "the wait timed out; the work goes on on the server"},
		{ExitInterrupted, "interrupted; the work goes on on the server"},
	}
}

// ExitHelp gives the table of exit codes for the program's help.
func ExitHelp() string {
	text := "Exit codes:\n"
	for _, row := range ExitCodes() {
		text += fmt.Sprintf("  %3d  %s\n", row.Code, row.Meaning)
	}
	return text
}

// ReasonUsage is the reason of an error that the command line itself is wrong.
const ReasonUsage = "Usage"

// ReasonPrecheck is the reason of failures that prechecks found before anything was changed.
const ReasonPrecheck = "PrecheckFailed"

// coded is an error that knows its exit code.
type coded struct {
	code ExitCode
	err  error
}

func (c *coded) Error() string { return c.err.Error() }
func (c *coded) Unwrap() error { return c.err }

// WithCode gives err an exit code, whatever its class says. A nil err gives nil.
func WithCode(code ExitCode, err error) error {
	if err == nil {
		return nil
	}
	return &coded{code: code, err: err}
}

// Refused is an error that nothing was changed, with what a person can do about it.
func Refused(reason, fix, format string, values ...any) error {
	return WithCode(ExitRefused, fault.NewTerminal(reason, fix, fmt.Errorf(format, values...)))
}

// withFix gives err an exit code, a reason and a fix.
func withFix(code ExitCode, reason, fix string, err error) error {
	return WithCode(code, fault.NewTerminal(reason, fix, err))
}

// Usagef is an error that the command line is wrong.
func Usagef(format string, values ...any) error {
	return WithCode(ExitUsage, fault.NewTerminal(ReasonUsage, "", fmt.Errorf(format, values...)))
}

// CodeOf gives the exit code of err: the code it carries, else that of the API's reason, else ExitFailed.
// A nil err gives ExitOK.
func CodeOf(err error) ExitCode {
	var c *coded
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &c):
		return c.code
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.Is(err, context.DeadlineExceeded), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return ExitTimedOut
	case apierrors.IsNotFound(err):
		return ExitNotFound
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsForbidden(err), apierrors.IsUnauthorized(err),
		apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return ExitRefused
	case fault.ReasonOf(err) == ReasonPrecheck:
		return ExitRefused
	default:
		return ExitFailed
	}
}

// Report prints err for a person, its fix on a line of its own, and gives the exit code. A nil err prints nothing.
func Report(w io.Writer, err error) ExitCode {
	if err == nil {
		return ExitOK
	}
	text := "error: " + Clean(err.Error()) + "\n"
	if fix := fixOf(err); fix != "" {
		text += "fix: " + Clean(fix) + "\n"
	}
	// Nobody is left to tell when standard error is closed; the exit code still says it.
	_, _ = io.WriteString(w, text)
	return CodeOf(err)
}

// fixOf gives the fix that err carries, or one that follows from what the API answered.
func fixOf(err error) string {
	if fix := fault.FixOf(err); fix != "" {
		return fix
	}
	switch {
	case apierrors.IsUnauthorized(err):
		return "use a kubeconfig of this server, or log in again"
	case apierrors.IsForbidden(err):
		return "ask an administrator for the right that is named, or choose another project with -p: slipway project list"
	case apierrors.IsConflict(err):
		return "somebody changed it at the same time: look at it and run the command again"
	case fault.ReasonOf(err) == ReasonUsage:
		return "see --help"
	default:
		return ""
	}
}

// Clean takes away what steers a terminal, is invisible or changes the direction of text: it may come from a host.
// Line ends and tabs stay.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			return r
		case unicode.Is(unicode.Z, r):
			return ' '
		}
		return -1
	}, text)
}

// Line is Clean on one line: line ends and tabs become spaces.
func Line(text string) string {
	return strings.Join(strings.Fields(Clean(text)), " ")
}

// Args makes what check refuses an error of usage.
func Args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return WithCode(ExitUsage, fault.NewTerminal(ReasonUsage, "see "+cmd.CommandPath()+" --help", err))
		}
		return nil
	}
}

// Noun makes cmd a command that only has sub-commands: alone it prints help, and unknown verbs and flags of it and
// of all below are errors of usage. Errors are left to Report.
func Noun(cmd *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(verbs...)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	for _, verb := range verbs {
		verb.SilenceErrors, verb.SilenceUsage = true, true
	}
	cmd.Args = Args(func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("cannot run %s: unknown command %q", cmd.CommandPath(), args[0])
		}
		return nil
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return WithCode(ExitUsage, fault.NewTerminal(ReasonUsage, "see "+cmd.CommandPath()+" --help", err))
	})
	return cmd
}
