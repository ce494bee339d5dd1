package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

const toolPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// run executes a program to its end and gives its standard output. The program does not outlive this process.
func run(ctx context.Context, stdin io.Reader, argv ...string) ([]byte, error) {
	program, err := findTool(argv[0])
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	cmd.Env = append(cmd.Environ(), toolPath, "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// The death signal is bound to the thread that starts the child, so the thread must stay until the end.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("cannot run %s: %w%s", strings.Join(argv[:min(len(argv), 4)], " "), err, lastLines(stderr.Bytes(), 5))
	}
	return stdout.Bytes(), nil
}

// runConfined is run in name spaces of its own: whatever it mounts or leaves running is gone when it ends, even
// when this process is killed meanwhile.
func runConfined(ctx context.Context, stdin io.Reader, argv ...string) ([]byte, error) {
	confined := []string{"unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL", "--"}
	return run(ctx, stdin, append(confined, argv...)...)
}

// lastLines renders the end of a program's output as an appendix to an error.
func lastLines(output []byte, count int) string {
	text := strings.TrimSpace(string(output))
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	return ": " + strings.Join(lines[max(0, len(lines)-count):], "; ")
}
