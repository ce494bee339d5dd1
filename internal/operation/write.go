package operation

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// writing is what a step's Apply may use: everything it changes is fenced, logged and refused once the run has stopped.
func (a *attempt) writing(session host.Session) step.Writer {
	w := step.Writer{
		Writer: &hostWriter{Reader: session, next: session.Writer(a.fence), attempt: a},
		Target: a.target, Secrets: a.Secrets, Blobs: a.Blobs, Backups: a.Backups, Reading: a.reading(session),
	}
	if a.writer != nil {
		w.Cluster = &clusterWriter{ClusterWriter: a.writer, attempt: a}
	}
	return w
}

// change runs one change between its two edges and logs it.
func (a *attempt) change(e LogEntry, do func(*LogEntry) error) error {
	if err := a.edge(a.target.Name, a.call.Name, BeforeWrite); err != nil {
		return err
	}
	start := time.Now()
	e.Step, e.Attempt, e.Level = a.call.Name, a.applied, levelInfo
	err := do(&e)
	e.DurationMillis = time.Since(start).Milliseconds()
	if err != nil {
		e.Level = levelWarn
		e.Message += ": " + err.Error()
	}
	a.log.write(e)
	if stopped := a.edge(a.target.Name, a.call.Name, AfterWrite); stopped != nil {
		return stopped
	}
	return err
}

// hostWriter is the Writer that steps get.
type hostWriter struct {
	host.Reader
	next    host.Writer
	attempt *attempt
}

// WriteFile logs path, mode and size, never content.
func (w *hostWriter) WriteFile(ctx context.Context, path string, f host.File) error {
	e := LogEntry{Message: fmt.Sprintf("write %d bytes, mode %04o", len(f.Content), f.Permissions()), Path: path}
	return w.attempt.change(e, func(*LogEntry) error { return w.next.WriteFile(ctx, path, f) })
}

// Remove logs the paths.
func (w *hostWriter) Remove(ctx context.Context, paths ...string) error {
	e := LogEntry{Message: "remove", Path: strings.Join(paths, " ")}
	return w.attempt.change(e, func(*LogEntry) error { return w.next.Remove(ctx, paths...) })
}

// Run logs argv, exit code and the last lines, never input or variables.
func (w *hostWriter) Run(ctx context.Context, c host.Command) (host.Result, error) {
	var result host.Result
	err := w.attempt.change(LogEntry{Message: "run", Argv: c.Argv}, func(e *LogEntry) error {
		var err error
		result, err = w.next.Run(ctx, c)
		e.Stdout, e.Stderr = tail(result.Stdout), tail(result.Stderr)
		if err == nil || result.ExitCode != 0 {
			e.ExitCode = &result.ExitCode
		}
		return err
	})
	return result, err
}

// clusterWriter is the managed cluster's API that steps get; every change is logged by kind and name.
type clusterWriter struct {
	step.ClusterWriter
	attempt *attempt
}

// Apply logs kind and name.
func (w *clusterWriter) Apply(ctx context.Context, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	what := fmt.Sprintf("%T", o)
	if named, ok := o.(interface {
		GetKind() string
		GetName() string
	}); ok {
		what = named.GetKind() + " " + named.GetName()
	}
	return w.attempt.change(LogEntry{Message: "apply " + what}, func(*LogEntry) error { return w.ClusterWriter.Apply(ctx, o, opts...) })
}

// Patch logs kind and name, never content.
func (w *clusterWriter) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.PatchOption) error {
	return w.attempt.change(LogEntry{Message: "patch " + nameOf(o)}, func(*LogEntry) error { return w.ClusterWriter.Patch(ctx, o, p, opts...) })
}

// Delete logs kind and name.
func (w *clusterWriter) Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	return w.attempt.change(LogEntry{Message: "delete " + nameOf(o)}, func(*LogEntry) error { return w.ClusterWriter.Delete(ctx, o, opts...) })
}

// Evict logs the pod.
func (w *clusterWriter) Evict(ctx context.Context, namespace, pod string, gracePeriod *int64) error {
	e := LogEntry{Message: fmt.Sprintf("evict pod %s/%s", namespace, pod)}
	return w.attempt.change(e, func(*LogEntry) error { return w.ClusterWriter.Evict(ctx, namespace, pod, gracePeriod) })
}

// nameOf gives kind, namespace and name of an object.
func nameOf(o client.Object) string {
	kind := o.GetObjectKind().GroupVersionKind().Kind
	if kind == "" {
		kind = strings.TrimPrefix(fmt.Sprintf("%T", o), "*")
	}
	return kind + " " + strings.TrimPrefix(client.ObjectKeyFromObject(o).String(), "/")
}

// AddEtcdLearner logs the URL of the new member.
func (w *clusterWriter) AddEtcdLearner(ctx context.Context, peerURL string) (step.EtcdMember, error) {
	var added step.EtcdMember
	err := w.attempt.change(LogEntry{Message: "add etcd learner " + peerURL}, func(*LogEntry) error {
		var err error
		added, err = w.ClusterWriter.AddEtcdLearner(ctx, peerURL)
		return err
	})
	return added, err
}

// PromoteEtcdMember logs the member.
func (w *clusterWriter) PromoteEtcdMember(ctx context.Context, id uint64) error {
	e := LogEntry{Message: fmt.Sprintf("promote etcd member %x", id)}
	return w.attempt.change(e, func(*LogEntry) error { return w.ClusterWriter.PromoteEtcdMember(ctx, id) })
}

// RemoveEtcdMember logs the member.
func (w *clusterWriter) RemoveEtcdMember(ctx context.Context, id uint64) error {
	e := LogEntry{Message: fmt.Sprintf("remove etcd member %x", id)}
	return w.attempt.change(e, func(*LogEntry) error { return w.ClusterWriter.RemoveEtcdMember(ctx, id) })
}

// MoveEtcdLeader logs the new leader.
func (w *clusterWriter) MoveEtcdLeader(ctx context.Context, to uint64) error {
	e := LogEntry{Message: fmt.Sprintf("move the leader of etcd to member %x", to)}
	return w.attempt.change(e, func(*LogEntry) error { return w.ClusterWriter.MoveEtcdLeader(ctx, to) })
}

// unitJournal reads the last lines of a unit's journal.
func (a *attempt) unitJournal(unit string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(a.ctx, evidenceTime)
	defer cancel()
	session, err := a.Sessions.Session(ctx, a.target.Name)
	if err != nil {
		return nil, err
	}
	result, err := session.Query(ctx, host.Journal(unit, 20))
	return result.Stdout, err
}
