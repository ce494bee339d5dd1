// Package outputtest owns what tests of commands need: a server of objects in memory, Slipway's own paths over HTTP,
// and golden files. It must never be linked into the program.
package outputtest

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// Bench is one server and one terminal to run a command on.
type Bench struct {
	Deps output.Deps
	// Client is the server's own: what tests do with it calls no hooks.
	Client client.WithWatch
	// Mux answers Slipway's own paths.
	Mux *http.ServeMux
	In  *bytes.Buffer
	// Out and ErrOut hold what was printed.
	Out, ErrOut *Screen
}

// Hooks are what the server does when a command has written something.
type Hooks struct {
	// Create comes before the object is stored; Created, Patched and Deleted after the write.
	Create                    func(object client.Object) error
	Created, Patched, Deleted func(ctx context.Context, server client.Client, object client.Object)
}

// Now is the time on a bench.
func Now() time.Time { return time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC) }

// New gives a bench whose server has the objects. The project is default unless a command names another.
func New(t *testing.T, hooks Hooks, objects ...client.Object) *Bench {
	t.Helper()
	kinds, err := output.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(kinds).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.Host{}, &v1alpha1.Cluster{}, &v1alpha1.Operation{}, &v1alpha1.HostRun{}, &v1alpha1.Project{}, &v1alpha1.User{}, &v1alpha1.Grant{}, &v1alpha1.BackupLocation{})
	byName := func(object client.Object) []string { return []string{object.GetName()} }
	for _, object := range []client.Object{&v1alpha1.Host{}, &v1alpha1.Cluster{}, &v1alpha1.Operation{}, &v1alpha1.Project{}, &v1alpha1.BackupLocation{}} {
		builder = builder.WithIndex(object, "metadata.name", byName)
	}
	b := &Bench{Client: builder.Build(), Mux: http.NewServeMux(), In: &bytes.Buffer{}, Out: &Screen{}, ErrOut: &Screen{}}
	server := httptest.NewServer(b.Mux)
	t.Cleanup(server.Close)
	raw, err := output.NewREST(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	hooked := interceptor.NewClient(b.Client, hooks.funcs(b.Client))
	b.Deps = output.Deps{
		Streams: genericiooptions.IOStreams{In: b.In, Out: b.Out, ErrOut: b.ErrOut},
		Now:     Now,
		Connect: func(project string) (*output.Connection, error) {
			if project == "" {
				project = "default"
			}
			return &output.Connection{Client: hooked, REST: raw, Project: project}, nil
		},
	}
	return b
}

func (h Hooks) funcs(server client.Client) interceptor.Funcs {
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
			if h.Create != nil {
				if err := h.Create(object); err != nil {
					return err
				}
			}
			if err := c.Create(ctx, object, options...); err != nil {
				return err
			}
			if h.Created != nil {
				h.Created(ctx, server, object.DeepCopyObject().(client.Object))
			}
			return nil
		},
		Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
			if err := c.Patch(ctx, object, patch, options...); err != nil {
				return err
			}
			if h.Patched != nil {
				h.Patched(ctx, server, object.DeepCopyObject().(client.Object))
			}
			return nil
		},
		Delete: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			if err := c.Delete(ctx, object, options...); err != nil {
				return err
			}
			if h.Deleted != nil {
				h.Deleted(ctx, server, object.DeepCopyObject().(client.Object))
			}
			return nil
		},
	}
}

// Run runs a command line, prints its error as the program does, and gives the exit code.
func (b *Bench) Run(ctx context.Context, cmd *cobra.Command, args ...string) output.ExitCode {
	cmd.SetArgs(args)
	cmd.SetOut(b.Out)
	cmd.SetErr(b.ErrOut)
	return output.Report(b.ErrOut, cmd.ExecuteContext(ctx))
}

// Everything gives what was printed, on standard output first.
func (b *Bench) Everything() string {
	return b.Out.String() + "--- stderr\n" + b.ErrOut.String()
}

// Screen keeps what is printed and can react to it.
type Screen struct {
	mu   sync.Mutex
	text strings.Builder
	// React is called with each print, after it is kept; nil does nothing.
	React func(text string)
}

// Write keeps p and reacts to it.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.text.Write(p)
	s.mu.Unlock()
	if s.React != nil {
		s.React(string(p))
	}
	return len(p), nil
}

// String gives all that was printed.
func (s *Screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// Golden compares got with testdata/NAME.golden. With the environment variable UPDATE_GOLDEN it writes the file.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got), UPDATE_GOLDEN=1 writes it anew:\n%s", path, diff)
	}
}
