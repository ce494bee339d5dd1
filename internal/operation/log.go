package operation

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"slipway.dev/slipway/internal/host"
)

// LogName is the blob that holds the log of one operation on one host: one LogEntry as JSON a line.
func LogName(namespace, operation, host string) string {
	return LogFolder(namespace, operation) + "/" + host + ".jsonl"
}

// PlanName is the blob that holds an operation's plan.
func PlanName(namespace, name string) string { return LogFolder(namespace, name) + "/plan.json" }

// PreviewName is the blob that holds the preview of an operation's plan.
func PreviewName(namespace, name string) string { return LogFolder(namespace, name) + "/preview.json" }

// LogFolder is the prefix of all blobs of one operation.
func LogFolder(namespace, operation string) string {
	return "operations/" + namespace + "/" + operation
}

// LogEntry is one line of an operation's log. It holds no secret that a step read, no input and no file content.
type LogEntry struct {
	Time time.Time `json:"time"`
	Host string    `json:"host"`
	// Step is the name of the call in the plan, empty for what concerns the host as a whole.
	Step string `json:"step,omitempty"`
	// Attempt counts runs of the step's Apply from 1 over all runs of the operation.
	Attempt int32 `json:"attempt,omitempty"`
	// Level is info, warn or error.
	Level   string `json:"level"`
	Message string `json:"message"`
	// Argv is the program that ran, Path the file that was written.
	Argv []string `json:"argv,omitempty"`
	Path string   `json:"path,omitempty"`
	// ExitCode is set when a program ended.
	ExitCode *int `json:"exitCode,omitempty"`
	// DurationMillis is how long the change took.
	DurationMillis int64 `json:"durationMillis,omitempty"`
	// Stdout and Stderr are the last lines that the program printed.
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`
}

// maxLogged is how much of one text a log entry keeps, in bytes.
const maxLogged = 16 << 10

const (
	levelInfo  = "info"
	levelWarn  = "warn"
	levelError = "error"
)

// hostLog writes the log of one host.
type hostLog struct {
	*run
	host, blob string
}

func (r *run) hostLog(name string) *hostLog {
	return &hostLog{run: r, host: name, blob: LogName(r.op.Namespace, r.op.Name, name)}
}

// write redacts and appends one entry. A log that cannot be written is reported, and does not stop the operation:
// the journal is what it must not go without.
func (l *hostLog) write(e LogEntry) {
	if l.stopped() != nil || l.op.Name == "" {
		return // a preview has no log
	}
	e.Time, e.Host = time.Now().UTC(), l.host
	e.Message = l.text(e.Message, maxLogged)
	e.Path = l.text(e.Path, maxLogged)
	e.Stdout, e.Stderr = l.secrets.Redact(e.Stdout), l.secrets.Redact(e.Stderr)
	argv := make([]string, 0, len(e.Argv))
	for _, word := range e.Argv {
		argv = append(argv, l.text(word, 1024))
	}
	e.Argv = argv
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	err := enc.Encode(e)
	if err == nil {
		err = l.Logs.Append(l.ctx, l.blob, line.Bytes())
	}
	if err != nil && l.stopped() == nil {
		l.Log.Error("cannot write the log of an operation", "host", l.host, "error", err)
	}
}

// note logs what the engine did, with the evidence that err carries.
func (a *attempt) note(level, message string, err error) {
	e := LogEntry{Step: a.call.Name, Attempt: a.applied, Level: level, Message: message}
	var command *host.CommandError
	if errors.As(err, &command) {
		e.Argv, e.ExitCode = command.Argv, &command.Result.ExitCode
		e.Stdout, e.Stderr = tail(command.Result.Stdout), tail(command.Result.Stderr)
	}
	a.log.write(e)
}

// noteWait logs why a step waits, but not again while nothing is new.
func (a *attempt) noteWait(err error, delay time.Duration) {
	if a.last != nil && a.last.Error() == err.Error() {
		return
	}
	a.note(levelWarn, err.Error()+"; another look in "+delay.Round(10*time.Millisecond).String(), err)
}

const evidenceTime = 10 * time.Second

// evidence keeps the end of the journal of a unit that could not be started or stopped.
func (a *attempt) evidence(err error) {
	var command *host.CommandError
	if !errors.As(err, &command) || len(command.Argv) < 3 || command.Argv[0] != "systemctl" {
		return
	}
	unit := command.Argv[len(command.Argv)-1]
	if strings.HasPrefix(unit, "-") {
		return
	}
	lines, err := a.unitJournal(unit)
	if err != nil {
		a.note(levelWarn, "cannot read the journal of "+unit+": "+err.Error(), nil)
		return
	}
	a.log.write(LogEntry{Step: a.call.Name, Attempt: a.applied, Level: levelError, Message: "journal of " + unit, Stdout: tail(lines)})
}

// text makes what hosts have a say in safe to show: without secrets, also such as only cleaning puts together, and at
// most max bytes.
func (r *run) text(s string, max int) string {
	s = r.secrets.Redact(s)
	return host.Shorten(r.secrets.Redact(host.Clean(s, len(s))), max)
}

// tail gives the last lines of what a program printed.
func tail(b []byte) string {
	const lines, size = 20, 4096
	b = bytes.TrimSpace(b)
	if len(b) > size {
		b = b[len(b)-size:]
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			b = b[i+1:]
		}
	}
	for at, n := len(b), 0; at > 0; n++ {
		at = bytes.LastIndexByte(b[:at], '\n')
		if n == lines-1 && at >= 0 {
			b = b[at+1:]
			break
		}
	}
	text := make([]string, 0, lines)
	for line := range strings.SplitSeq(string(b), "\n") {
		text = append(text, host.Clean(line, size))
	}
	return strings.Join(text, "\n")
}
