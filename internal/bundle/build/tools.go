package build

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// tools runs the programs of this machine that a build needs. Arguments are always given one by one.
type tools struct {
	environ []string
}

// newTools drops from the environment what would change the content of programs.
func newTools(environ []string) *tools {
	var kept []string
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if !changesPrograms(name) {
			kept = append(kept, variable)
		}
	}
	return &tools{environ: append(kept, "LC_ALL=C.UTF-8", "TZ=UTC")}
}

func changesPrograms(variable string) bool {
	switch variable {
	case "GOFLAGS", "GOWORK", "GOOS", "GOARCH", "GOAMD64", "GOARM", "GOARM64", "GOPPC64", "GORISCV64", "GOEXPERIMENT",
		"GODEBUG", "GOTOOLCHAIN", "GOFIPS140", "CC", "CXX", "AR", "LC_ALL", "LANG", "TZ", "SOURCE_DATE_EPOCH",
		"CFLAGS", "CPPFLAGS", "LDFLAGS", "CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "GCC_EXEC_PREFIX",
		"PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR", "PKG_CONFIG":
		return true
	}
	return strings.HasPrefix(variable, "CGO_")
}

// command is one program to run.
type command struct {
	argv []string
	dir  string
	env  []string
	// line sees each line of the error output as it comes; may be nil.
	line func(string)
}

// lastLines is how much of a failed program's error output is kept as evidence.
const lastLines = 20

// output runs a program to its end and gives its standard output. A failure carries the last lines of its error
// output.
func (t *tools) output(ctx context.Context, c command) ([]byte, error) {
	var out strings.Builder
	err := t.stream(ctx, c, func(r io.Reader) error {
		_, err := io.Copy(&out, r)
		return err
	})
	return []byte(out.String()), err
}

// stream runs a program and hands its standard output to read as it comes.
func (t *tools) stream(ctx context.Context, c command, read func(io.Reader) error) error {
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir, cmd.Env = c.dir, append(append([]string{}, t.environ...), c.env...)
	// A compiler starts many processes: all of them end with the build, also when the build itself is killed. The
	// kernel ties that signal to the thread that starts the program, so this goroutine keeps its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", c.argv[0], err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", c.argv[0], err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot run %s: %w", c.argv[0], err)
	}
	evidence := make(chan []string, 1)
	go func() { evidence <- tail(stderr, c.line) }()
	readErr := read(stdout)
	if readErr != nil {
		// The program would block on a pipe nobody reads; it has nothing more to give.
		_ = cmd.Cancel()
	}
	lines := <-evidence
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case readErr != nil:
		return fmt.Errorf("cannot read the output of %s: %w", c.argv[0], readErr)
	case err != nil:
		return fmt.Errorf("cannot run %s: %w\n%s", strings.Join(c.argv, " "), err, strings.Join(lines, "\n"))
	}
	return nil
}

// tail reads to the end and keeps the last lines.
func tail(r io.Reader, each func(string)) []string {
	var lines []string
	reader := bufio.NewReader(r)
	for {
		line, err := reader.ReadString('\n')
		if line = strings.TrimRight(line, "\n"); line != "" {
			if each != nil {
				each(line)
			}
			if lines = append(lines, line); len(lines) > lastLines {
				lines = lines[1:]
			}
		}
		if err != nil {
			return lines
		}
	}
}

// goSettings is what of the Go toolchain's settings matters to a build.
type goSettings struct {
	Version    string `json:"GOVERSION"`
	HostArch   string `json:"GOHOSTARCH"`
	SumDB      string `json:"GOSUMDB"`
	NoSumDB    string `json:"GONOSUMDB"`
	Experiment string `json:"GOEXPERIMENT"`
}

func (t *tools) goSettings(ctx context.Context) (goSettings, error) {
	var settings goSettings
	out, err := t.output(ctx, command{
		argv: []string{"go", "env", "-json", "GOVERSION", "GOHOSTARCH", "GOSUMDB", "GONOSUMDB", "GOEXPERIMENT"},
		env:  []string{"GOTOOLCHAIN=local"},
	})
	if err != nil {
		return settings, fmt.Errorf("cannot find the Go toolchain: %w; install Go and have it in PATH", err)
	}
	if err := json.Unmarshal(out, &settings); err != nil {
		return settings, fmt.Errorf("cannot read the Go settings: %w", err)
	}
	if settings.Experiment != "" {
		return settings, fmt.Errorf("cannot build with GOEXPERIMENT=%s; run `go env -u GOEXPERIMENT`", settings.Experiment)
	}
	return settings, nil
}
