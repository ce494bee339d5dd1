package host

import "testing"

func TestCommandErrorTellsWhatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct{ reason, stderr, stdout, want string }{
		"hint": {"kubeadm ends with a hint", "error: error execution phase: no route to host\nTo see the stack trace of this error execute with --v=5 or higher\n", "",
			"x ended with exit code 1: error: error execution phase: no route to host"},
		"last":   {"most programs say it at the end", "reading\nno such device\n\n", "", "x ended with exit code 1: no such device"},
		"stdout": {"some say it in the wrong place", "", "Error: no space left\nbye\n", "x ended with exit code 1: Error: no space left"},
		"silent": {"nothing to tell", "\n", "", "x ended with exit code 1"},
	} {
		t.Run(name, func(t *testing.T) {
			err := &CommandError{Argv: []string{"x"}, Result: Result{ExitCode: 1, Stderr: []byte(tc.stderr), Stdout: []byte(tc.stdout)}}
			if got := err.Error(); got != tc.want {
				t.Errorf("%s: %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
}
