package operation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/blob"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/secret"
	"slipway.dev/slipway/internal/step"
)

// DefaultParallel is how many hosts work at the same time when Deps.Parallel is not set.
const DefaultParallel = 50

// ClusterAccess gives the two halves of a managed cluster's API. It connects when they are first used, never before.
type ClusterAccess func(namespace, cluster string) (step.ClusterReader, step.ClusterWriter)

// Deps is what an Engine works with. Every field without a default is needed.
type Deps struct {
	// Client talks to the platform's API. It should read from the server, not from a cache:
	// the engine reads little, and a stale read only costs it another try.
	Client client.Client
	// Sessions gives connections to hosts.
	Sessions host.Sessions
	// Steps decodes plans.
	Steps step.Registry
	// Secrets and Blobs are handed to steps. Values read through Secrets are taken out of all logs and messages.
	Secrets step.Secrets
	Blobs   step.Blobs
	// Backups is handed to steps; nil when no step of any plan takes or brings back a backup.
	Backups step.BackupWriter
	// Cluster is handed to steps; nil when no step of any plan needs a managed cluster.
	Cluster ClusterAccess
	// Unprintable is what more is taken out of logs and messages: what hosts were logged in to with may come back in
	// what they print. Nil means nothing more.
	Unprintable *secret.Set
	// Logs keeps the logs, see LogName.
	Logs blob.Store
	// Owner is the identity of this installation for the fence.
	Owner string
	// Log takes what no operation's log can hold.
	Log *slog.Logger
	// Parallel is how many hosts work at the same time in one operation; default DefaultParallel.
	// A host that only waits does not count.
	Parallel int
	// Edges is called at every point where a crash would matter, and an error from it stops the engine on the spot,
	// as a crash would. It is nil in production.
	Edges func(ctx context.Context, e Edge) error
}

// Engine runs operations. It keeps nothing between runs and is safe for concurrent use on different operations.
type Engine struct {
	deps Deps
}

// New checks that nothing is missing from deps and gives the engine.
func New(deps Deps) (*Engine, error) {
	if deps.Client == nil || deps.Sessions == nil || deps.Logs == nil || deps.Log == nil {
		return nil, errors.New("cannot make an engine: Client, Sessions, Logs and Log are needed")
	}
	if err := (host.Fence{Owner: deps.Owner, Epoch: 1}).Validate(); err != nil {
		return nil, fmt.Errorf("cannot make an engine: %w", err)
	}
	if deps.Parallel <= 0 {
		deps.Parallel = DefaultParallel
	}
	if deps.Cluster == nil {
		deps.Cluster = func(string, string) (step.ClusterReader, step.ClusterWriter) { return nil, nil }
	}
	return &Engine{deps: deps}, nil
}

// Outcome is what came of a run.
type Outcome struct {
	// Phase is Succeeded, Partial, Failed, Aborted or Blocked.
	Phase v1alpha1.OperationPhase
	// Failures lists what went wrong, MaxFailures at most, in the plan's order of hosts.
	Failures []v1alpha1.Failure
	// Message says what came of it and what to do next.
	Message string
}

// Run runs p, the approved plan of op, to its end and gives the outcome, which is then also in op's stored status.
// It begins with a Check of every step, those that are on record as done too, so the same call starts, resumes
// and retries. Closing abort lets no further step begin; nil means that nobody can abort.
//
// An error means that the run stopped without an outcome and left the record as it was: ctx ended, the platform's
// API could not be written, or another engine has taken the operation over (see Superseded). Run it again to go on.
func (e *Engine) Run(ctx context.Context, op *v1alpha1.Operation, p *plan.Plan, abort <-chan struct{}) (Outcome, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := newRun(ctx, stop, e.deps, op, p)
	if err := r.prepare(); err != nil {
		return r.end(blocked(op.Name, r.clean(err)))
	}
	if err := r.begin(); err != nil {
		return Outcome{}, fmt.Errorf("cannot go on with operation %s: %w", op.Name, err)
	}
	if !r.claimAll() {
		r.walkAll(abort)
	}
	return r.end(r.outcome())
}
