package operation_test

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/step"
)

func TestPreview(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, runtime := []step.Output{step.API}, []step.Output{step.Runtime}
		w := newWorld(t, planned(t, "cp1 w1 w2",
			on(t, "files", "cp1 w1 w2", "", file{Path: "/a", Content: "x", Give: runtime}),
			on(t, "init", "cp1", "files", file{Path: "/i", Content: "x", Give: api, Need: runtime}),
			on(t, "join", "w1 w2", "init", file{Path: "/k", Content: "x", Need: runtime}, file{Path: "/j", Content: "x", Need: api},
				login{Ref: step.SecretRef{Name: "password"}}, crash{InCheck: true}, forever{}),
		), interceptor.Funcs{})
		for _, path := range []string{"/a", "/a.copy"} {
			w.hosts["w1"].Do(func(s *fakehost.State) {
				if err := s.WriteFile(path, []byte("x"), 0o644); err != nil {
					t.Fatal(err)
				}
			})
		}
		w.hosts["w2"].PowerOff()
		engine, err := operation.New(w.deps)
		if err != nil {
			t.Fatal(err)
		}
		got, err := engine.Preview(t.Context(), w.plan)
		if err != nil {
			t.Fatal(err)
		}
		missing := func(path string) step.Drift {
			return step.Drift{{What: path, Want: "present"}, {What: path + ".copy", Want: "present"}}
		}
		const unreachable = "cannot reach host w2: no route to host"
		want := []operation.HostPreview{
			{Host: "cp1", Calls: []operation.CallPreview{
				{Stage: "files", Call: "files-0", State: operation.PreviewDrift, Drift: missing("/a")},
				{Stage: "init", Call: "init-0", State: operation.PreviewAfter, After: "files-0"},
			}},
			{Host: "w1", Calls: []operation.CallPreview{
				{Stage: "files", Call: "files-0", State: operation.PreviewClean},
				{Stage: "join", Call: "join-0", State: operation.PreviewDrift, Drift: missing("/k")},
				{Stage: "join", Call: "join-1", State: operation.PreviewAfter, After: "init-0 on cp1"},
				{Stage: "join", Call: "join-2", State: operation.PreviewDrift, Drift: step.Drift{{What: "login", Have: "as [redacted]", Want: "nothing"}}},
				{Stage: "join", Call: "join-3", State: operation.PreviewError, Message: "cannot run join-3: Check panicked: check is broken",
					Fix: "report this to the maintainers with the operation's logs"},
				{Stage: "join", Call: "join-4", State: operation.PreviewDrift,
					Drift: step.Drift{{What: "join-4", Have: "cannot see node w1: it has not registered", Want: "finished"}}},
			}},
			{Host: "w2", Calls: []operation.CallPreview{
				{Stage: "files", Call: "files-0", State: operation.PreviewError, Message: unreachable},
				{Stage: "join", Call: "join-0", State: operation.PreviewAfter, After: "files-0"},
				{Stage: "join", Call: "join-1", State: operation.PreviewAfter, After: "init-0 on cp1"},
				{Stage: "join", Call: "join-2", State: operation.PreviewError, Message: unreachable},
				{Stage: "join", Call: "join-3", State: operation.PreviewError, Message: unreachable},
				{Stage: "join", Call: "join-4", State: operation.PreviewError, Message: unreachable},
			}},
		}
		if diff := cmp.Diff(want, got.Hosts); diff != "" {
			t.Error(diff)
		}
		if got.Clean() || got.Errors() != 5 {
			t.Errorf("Clean = %t, Errors = %d", got.Clean(), got.Errors())
		}
		if w.hosts["w1"].Writes() != 0 || w.stored(t).Status.Phase != "" {
			t.Error("the preview changed something")
		}
	})
}
