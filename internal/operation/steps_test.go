package operation_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// file makes two files that belong together, so that it can be cut off in the middle.
type file struct {
	Path, Content string
	Give, Need    []step.Output
}

func (file) ID() step.ID            { return "test.file/v1" }
func (f file) Gives() []step.Output { return f.Give }
func (f file) Needs() []step.Output { return f.Need }

func (f file) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	for _, path := range []string{f.Path, f.Path + ".copy"} {
		if err := drift.WantFile(ctx, r, path, host.File{Content: []byte(f.Content)}); err != nil {
			return nil, err
		}
	}
	return drift, nil
}

func (f file) Apply(ctx context.Context, w step.Writer) error {
	for _, path := range []string{f.Path, f.Path + ".copy"} {
		if err := w.WriteFile(ctx, path, host.File{Content: []byte(f.Content)}); err != nil {
			return fmt.Errorf("cannot write %s: %w", path, err)
		}
	}
	return nil
}

// boot starts something that is ready five seconds later.
type boot struct{}

const bootTime = 5 * time.Second

func (boot) ID() step.ID { return "test.boot/v1" }

func (boot) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	started, err := r.ReadFile(ctx, "/run/started")
	if errors.Is(err, fs.ErrNotExist) {
		return step.Drift{{What: "service", Want: "running"}}, nil
	}
	if err != nil {
		return nil, err
	}
	at, err := r.ReadFile(ctx, "/run/started.at")
	if err != nil {
		return step.Drift{{What: "service", Have: string(started), Want: "running"}}, nil
	}
	since, err := time.Parse(time.RFC3339Nano, string(at))
	if err != nil {
		return nil, err
	}
	if time.Since(since) < bootTime {
		return nil, fault.NewWaiting("Booting", errors.New("cannot use the service: it still boots"))
	}
	return nil, nil
}

func (boot) Apply(ctx context.Context, w step.Writer) error {
	for path, text := range map[string]string{"/run/started": "yes", "/run/started.at": time.Now().Format(time.RFC3339Nano)} {
		if err := w.WriteFile(ctx, path, host.File{Content: []byte(text)}); err != nil {
			return err
		}
	}
	return nil
}

// token mints a random value once.
type token struct{}

func (token) ID() step.ID { return "test.token/v1" }

func (token) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	have, err := r.ReadFile(ctx, "/etc/token")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var drift step.Drift
	drift.Want("token length", fmt.Sprint(len(have)), fmt.Sprint(len(rand.Text())))
	return drift, nil
}

func (token) Apply(ctx context.Context, w step.Writer) error {
	return w.WriteFile(ctx, "/etc/token", host.File{Content: []byte(rand.Text()), Mode: 0o600})
}

// derived writes what follows from the token.
type derived struct{}

func (derived) ID() step.ID { return "test.derived/v1" }

func (derived) want(ctx context.Context, r host.Reader) (host.File, error) {
	have, err := r.ReadFile(ctx, "/etc/token")
	return host.File{Content: []byte("token=" + string(have))}, err
}

func (d derived) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	f, err := d.want(ctx, r)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	err = drift.WantFile(ctx, r, "/etc/config", f)
	return drift, err
}

func (d derived) Apply(ctx context.Context, w step.Writer) error {
	f, err := d.want(ctx, w)
	if err != nil {
		return err
	}
	return w.WriteFile(ctx, "/etc/config", f)
}

// login uses a secret in every way in which it could leak.
type login struct{ Ref step.SecretRef }

func (login) ID() step.ID { return "test.login/v1" }

func (l login) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	value, err := r.Secrets.Secret(ctx, l.Ref)
	if err != nil {
		return nil, err
	}
	return step.Drift{{What: "login", Have: "as " + string(value), Want: "nothing"}}, nil
}

func (l login) Apply(ctx context.Context, w step.Writer) error {
	value, err := w.Secrets.Secret(ctx, l.Ref)
	if err != nil {
		return err
	}
	if err := w.WriteFile(ctx, "/etc/login", host.File{Content: value}); err != nil {
		return err
	}
	_, err = w.Run(ctx, host.Command{Argv: []string{"systemctl", "--password=" + string(value), "restart", "demo.service"},
		Stdin: strings.NewReader(string(value))})
	return err
}

// command runs one program whose end decides.
type command struct {
	Argv  []string
	Limit time.Duration
}

func (command) ID() step.ID               { return "test.command/v1" }
func (c command) Deadline() time.Duration { return c.Limit }

func (c command) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	err := drift.WantFile(ctx, r, "/done/"+c.Argv[0], host.File{Content: []byte("done")})
	return drift, err
}

func (c command) Apply(ctx context.Context, w step.Writer) error {
	if _, err := w.Run(ctx, host.Command{Argv: c.Argv}); err != nil {
		return fmt.Errorf("cannot run %s: %w", c.Argv[0], err)
	}
	return w.WriteFile(ctx, "/done/"+c.Argv[0], host.File{Content: []byte("done")})
}

// crash panics.
type crash struct{ InCheck bool }

func (crash) ID() step.ID { return "test.crash/v1" }

func (c crash) Check(context.Context, step.Reader) (step.Drift, error) {
	if c.InCheck {
		panic("check is broken")
	}
	return step.Drift{{What: "all", Want: "well"}}, nil
}

func (crash) Apply(context.Context, step.Writer) error { panic("apply is broken") }

// stubborn never changes anything.
type stubborn struct{}

func (stubborn) ID() step.ID { return "test.stubborn/v1" }

func (stubborn) Check(context.Context, step.Reader) (step.Drift, error) {
	return step.Drift{{What: "knob", Have: "off", Want: "on"}}, nil
}

func (stubborn) Apply(ctx context.Context, w step.Writer) error {
	_, err := w.Run(ctx, host.Command{Argv: []string{"turn"}})
	return err
}

// forever waits for what never comes.
type forever struct{ Limit time.Duration }

func (forever) ID() step.ID               { return "test.forever/v1" }
func (f forever) Deadline() time.Duration { return f.Limit }

func (forever) Check(context.Context, step.Reader) (step.Drift, error) {
	return nil, fault.NewWaiting("NotReady", errors.New("cannot see node w1: it has not registered"))
}

func (forever) Apply(context.Context, step.Writer) error { return nil }

// passing is a command whose effect is taken back later.
type passing struct{ command }

func (passing) ID() step.ID { return "test.passing/v1" }
func (passing) Passes()     {}
