package operation

import (
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan"
)

// OperationLabel is on every HostRun and holds the name of its Operation, or the start of its digest when
// the name is too long for a label.
const OperationLabel = "slipway.dev/operation"

// HostRunName is the name of the HostRun of one operation on one host.
func HostRunName(operation, host string) string { return operation + "." + host }

func labelValue(operation string) string {
	if len(operation) <= 63 {
		return operation
	}
	return plan.Digest([]byte(operation))[len("sha256:"):][:40]
}

// journal is the record of one host. Only its walk uses it.
type journal struct {
	*run
	object v1alpha1.HostRun
	// order is the position of each call in the plan.
	order map[string]int
	// last is the call that the next write is about.
	last  string
	dirty bool
}

// openJournal reads the record of a host, or makes it.
func (r *run) openJournal(name string) (*journal, error) {
	j := &journal{run: r, order: r.progress.order}
	key := client.ObjectKey{Namespace: r.op.Namespace, Name: HostRunName(r.op.Name, name)}
	err := r.Client.Get(r.ctx, key, &j.object)
	if apierrors.IsNotFound(err) {
		if err = r.edge(name, "", BeforeRecord); err != nil {
			return nil, err
		}
		j.object = v1alpha1.HostRun{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name,
				Labels: map[string]string{OperationLabel: labelValue(r.op.Name)},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion().String(), Kind: "Operation",
					Name: r.op.Name, UID: r.op.UID, Controller: new(true)}}},
			Spec: v1alpha1.HostRunSpec{Operation: r.op.Name, Host: name},
		}
		if err = r.Client.Create(r.ctx, &j.object); apierrors.IsAlreadyExists(err) {
			err = r.Client.Get(r.ctx, key, &j.object)
		}
		if err == nil {
			err = r.edge(name, "", AfterRecord)
		}
	}
	if err != nil {
		return nil, r.lost(fmt.Errorf("cannot open the record of host %s: %w", name, err))
	}
	return j, nil
}

// claimed notes the epoch of this run.
func (j *journal) claimed(epoch int64) {
	j.object.Status.Epoch = epoch
	j.dirty = true
}

// record gives the record of a call, made in the plan's order when it is missing.
func (j *journal) record(call string) *v1alpha1.StepRecord {
	steps := j.object.Status.Steps
	i, found := slices.BinarySearchFunc(steps, call, func(s v1alpha1.StepRecord, name string) int {
		return j.order[s.Name] - j.order[name]
	})
	if !found {
		j.object.Status.Steps = slices.Insert(steps, i, v1alpha1.StepRecord{Name: call, StartedAt: metav1.Now()})
	}
	return &j.object.Status.Steps[i]
}

func (j *journal) state(call string) v1alpha1.StepState {
	for _, s := range j.object.Status.Steps {
		if s.Name == call {
			return s.State
		}
	}
	return ""
}

// begin records that a call runs, and that it changes something, together with everything that is done by now.
func (j *journal) begin(call string, changing bool) error {
	rec := j.record(call)
	if rec.State == v1alpha1.StepDone || rec.State == v1alpha1.StepFailed {
		rec.StartedAt = metav1.Now()
	}
	j.set(rec, v1alpha1.StepRunning)
	rec.FinishedAt = nil
	rec.Changed = rec.Changed || changing
	return j.flush()
}

// applies notes one more run of Apply; it is stored with the next write.
func (j *journal) applies(call string) int32 {
	rec := j.record(call)
	rec.Attempts++
	j.dirty = true
	return rec.Attempts
}

// done notes that a call is done; it is stored with the next write. A call that was done before stays as it was.
func (j *journal) done(call string) {
	if j.state(call) == v1alpha1.StepDone {
		return
	}
	rec := j.record(call)
	j.set(rec, v1alpha1.StepDone)
	rec.FinishedAt = new(metav1.Now())
}

// failed notes that a call failed; it is stored with the next write.
func (j *journal) failed(call string) {
	rec := j.record(call)
	j.set(rec, v1alpha1.StepFailed)
	rec.FinishedAt = new(metav1.Now())
}

func (j *journal) set(rec *v1alpha1.StepRecord, state v1alpha1.StepState) {
	rec.State = state
	j.object.Status.Step, j.object.Status.State = rec.Name, state
	j.last, j.dirty = rec.Name, true
}

// flush stores what is noted. An error has stopped the run.
func (j *journal) flush() error {
	if !j.dirty {
		return j.stopped()
	}
	name := j.object.Spec.Host
	if err := j.edge(name, j.last, BeforeRecord); err != nil {
		return err
	}
	err := j.retryConflicts(func() error {
		wanted := j.object.DeepCopy()
		err := j.Client.Status().Update(j.ctx, wanted)
		if apierrors.IsConflict(err) {
			return j.reread(err)
		}
		if err == nil {
			j.object.ResourceVersion = wanted.ResourceVersion
		}
		return err
	})
	if err != nil {
		return j.lost(fmt.Errorf("cannot record the progress of host %s: %w", name, err))
	}
	j.dirty = false
	return j.edge(name, j.last, AfterRecord)
}

// reread prepares another try after a conflict, unless a newer run has written the record.
func (j *journal) reread(conflict error) error {
	var fresh v1alpha1.HostRun
	if err := j.Client.Get(j.ctx, client.ObjectKeyFromObject(&j.object), &fresh); err != nil {
		return err
	}
	if fresh.Status.Epoch > j.object.Status.Epoch {
		return fault.NewTerminal(ReasonSuperseded, "stop this server if another one has taken over; otherwise run the operation again",
			fmt.Errorf("another engine has taken over with epoch %d", fresh.Status.Epoch))
	}
	j.object.ResourceVersion = fresh.ResourceVersion
	return conflict
}
