package operation

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
)

// progress is the Operation's status as it grows. It is safe for concurrent use.
type progress struct {
	// order is the position of each call in the plan.
	order map[string]int
	// changed holds an element when something is not stored yet.
	changed chan struct{}

	mu     sync.Mutex
	status v1alpha1.OperationStatus
	dones  map[hostCall]bool
	// finishes are when an earlier run had finished a stage; nil once this one had to do something there.
	finishes []*metav1.Time
}

type hostCall struct{ host, call string }

func newProgress(op *v1alpha1.Operation, p *plan.Plan) *progress {
	g := &progress{order: map[string]int{}, changed: make(chan struct{}, 1), dones: map[hostCall]bool{}}
	before := map[string]v1alpha1.StageProgress{}
	for _, s := range op.Status.Stages {
		before[s.Name] = s
	}
	g.status = v1alpha1.OperationStatus{Phase: v1alpha1.OperationRunning, Attempt: op.Spec.Attempt,
		StartedAt: op.Status.StartedAt, Progress: v1alpha1.Progress{Steps: int32(p.Steps())}}
	if g.status.StartedAt == nil {
		g.status.StartedAt = new(metav1.Now())
	}
	for _, s := range p.Stages {
		for _, c := range s.Calls {
			g.order[c.Name] = len(g.order)
		}
		if len(g.status.Stages) == maxStages {
			continue // such a plan is blocked
		}
		g.status.Stages = append(g.status.Stages, v1alpha1.StageProgress{
			Name: s.Name, Steps: int32(len(s.Hosts) * len(s.Calls)), StartedAt: before[s.Name].StartedAt})
		g.finishes = append(g.finishes, before[s.Name].FinishedAt)
	}
	return g
}

// change runs f on the status and lets it be stored.
func (g *progress) change(f func(*v1alpha1.OperationStatus)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(&g.status)
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// done counts a call as done, once.
func (g *progress) done(host, call string, stage int) { g.count(hostCall{host, call}, stage, true) }

// undone takes back what an earlier run had done.
func (g *progress) undone(host, call string, stage int) { g.count(hostCall{host, call}, stage, false) }

func (g *progress) count(c hostCall, stage int, done bool) {
	g.change(func(s *v1alpha1.OperationStatus) {
		if !done {
			g.finishes[stage] = nil
		}
		if g.dones[c] == done {
			return
		}
		g.dones[c] = done
		by := int32(1)
		if !done {
			by = -1
		}
		s.Stages[stage].Done += by
		s.Progress.Done += by
	})
}

func (g *progress) began(stage int) {
	g.change(func(s *v1alpha1.OperationStatus) {
		if s.Stages[stage].StartedAt == nil {
			s.Stages[stage].StartedAt = new(metav1.Now())
		}
		s.Stage = s.Stages[stage].Name
	})
}

// finished notes that no host has anything to do in the stage any more; the stage shown is then one that still runs.
func (g *progress) finished(stage int) {
	g.change(func(s *v1alpha1.OperationStatus) {
		if s.Stages[stage].StartedAt == nil {
			return
		}
		if s.Stages[stage].FinishedAt = g.finishes[stage]; s.Stages[stage].FinishedAt == nil {
			s.Stages[stage].FinishedAt = new(metav1.Now())
		}
		for _, other := range s.Stages {
			if other.StartedAt != nil && other.FinishedAt == nil {
				s.Stage = other.Name
				return
			}
		}
	})
}

func (g *progress) failed(failures []v1alpha1.Failure) {
	g.change(func(s *v1alpha1.OperationStatus) { s.Failures = failures })
}

// begin stores the status before anything is done, with what earlier runs have done.
func (r *run) begin() error {
	var records v1alpha1.HostRunList
	err := r.Client.List(r.ctx, &records, client.InNamespace(r.op.Namespace),
		client.MatchingLabels{OperationLabel: labelValue(r.op.Name)})
	if err != nil {
		return fmt.Errorf("cannot read the record: %w", err)
	}
	stageOf := map[string]int{}
	for _, s := range r.stages {
		for _, c := range s.Calls {
			stageOf[c.Name] = s.index
		}
	}
	for _, record := range records.Items {
		for _, s := range record.Status.Steps {
			if stage, planned := stageOf[s.Name]; planned && s.State == v1alpha1.StepDone && record.Spec.Operation == r.op.Name {
				r.progress.done(record.Spec.Host, s.Name, stage)
			}
		}
	}
	if err := r.edge("", "", BeforeRecord); err != nil {
		return err
	}
	if err := r.store(); err != nil {
		return err
	}
	return r.edge("", "", AfterRecord)
}

// reportEvery bounds how often the Operation is written.
const reportEvery = time.Second

// report stores the status when it has changed, at most once a second, until ended is closed.
func (r *run) report(ended <-chan struct{}) {
	pace := time.NewTimer(reportEvery)
	defer pace.Stop()
	for {
		select {
		case <-ended:
			return
		case <-r.ctx.Done():
			return
		case <-pace.C:
		}
		select {
		case <-ended:
			return
		case <-r.ctx.Done():
			return
		case <-r.progress.changed:
		}
		if r.store() != nil {
			return // the run has stopped
		}
		pace.Reset(reportEvery)
	}
}

// store writes every field of the status that the engine owns, and no other. An error has stopped the run.
func (r *run) store() error {
	if err := r.stopped(); err != nil {
		return err
	}
	patch, err := r.progress.patch()
	if err != nil {
		return r.lost(err)
	}
	object := &v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Namespace: r.op.Namespace, Name: r.op.Name}}
	err = r.retryConflicts(func() error {
		return r.Client.Status().Patch(r.ctx, object, client.RawPatch(types.MergePatchType, patch))
	})
	if apierrors.IsNotFound(err) {
		err = fmt.Errorf("it was deleted: %w", err)
	}
	if err != nil {
		return r.lost(fmt.Errorf("cannot record the progress: %w", err))
	}
	return nil
}

// patch gives the owned fields as a JSON merge patch; an empty field takes the stored one away.
func (g *progress) patch() ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := &g.status
	s.Progress.Summary = fmt.Sprintf("%d/%d", s.Progress.Done, s.Progress.Steps)
	owned := map[string]any{"phase": s.Phase, "attempt": s.Attempt, "stage": s.Stage, "stages": s.Stages, "progress": s.Progress,
		"startedAt": s.StartedAt, "finishedAt": s.FinishedAt, "failures": nil, "message": nil}
	if len(s.Failures) > 0 {
		owned["failures"] = s.Failures
	}
	if s.Message != "" {
		owned["message"] = s.Message
	}
	b, err := json.Marshal(map[string]any{"status": owned})
	if err != nil {
		return nil, fmt.Errorf("cannot encode the progress: %w", err)
	}
	return b, nil
}
