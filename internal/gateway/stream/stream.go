// Package stream owns what the API cannot carry as objects: plans with their previews, and logs followed live.
// It changes nothing.
package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/blob"
	"slipway.dev/slipway/internal/gateway"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/step"
)

// Deps is what the handler works with.
type Deps struct {
	// Client talks to the platform's API as Slipway itself.
	Client client.Client
	// Blobs holds plans and logs; Follow tells of their growth.
	Blobs interface {
		blob.Store
		blob.Follower
	}
	Log *slog.Logger
}

type handler struct{ Deps }

// Routes gives the routes of plans and logs.
func Routes(deps Deps) []gateway.Route {
	h := handler{deps}
	const project = "/slipway/v1/projects/{project}"
	rule := func(verb, resource, subresource string) gateway.Rule {
		return gateway.Rule{RBAC: &access.Attributes{Verb: verb, Resource: resource, Subresource: subresource}}
	}
	return []gateway.Route{
		{Method: "GET", Path: project + "/operations/{name}/plan", Rule: rule("get", "operations", "plan"), Serve: h.plan},
		{Method: "GET", Path: project + "/operations/{name}/log", Rule: rule("get", "operations", "log"), Long: true, Serve: h.log},
	}
}

// looked is one step on one host in the answer about a plan.
type looked struct {
	Host  string                 `json:"host"`
	Step  string                 `json:"step"`
	State operation.PreviewState `json:"state"`
	After string                 `json:"after,omitempty"`
	Drift step.Drift             `json:"drift,omitempty"`
	Error string                 `json:"error,omitempty"`
	Fix   string                 `json:"fix,omitempty"`
}

// plan answers with the plan and, when there is one, its preview.
func (h handler) plan(w http.ResponseWriter, r *http.Request) error {
	project, name := r.PathValue("project"), r.PathValue("name")
	plan, err := h.read(r.Context(), operation.PlanName(project, name))
	if errors.Is(err, fs.ErrNotExist) {
		return apierrors.NewNotFound(v1alpha1.GroupVersion().WithResource("plans").GroupResource(), name)
	}
	if err != nil {
		return err
	}
	answer := struct {
		Plan    json.RawMessage `json:"plan"`
		Preview []looked        `json:"preview,omitempty"`
	}{Plan: plan}
	b, err := h.read(r.Context(), operation.PreviewName(project, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		var preview operation.Preview
		if err := json.Unmarshal(b, &preview); err != nil {
			return fmt.Errorf("cannot read the preview of operation %s: %w", name, err)
		}
		for _, host := range preview.Hosts {
			for _, c := range host.Calls {
				answer.Preview = append(answer.Preview, looked{host.Host, c.Call, c.State, c.After, c.Drift, c.Message, c.Fix})
			}
		}
	}
	return gateway.WriteJSON(w, answer)
}

func (h handler) read(ctx context.Context, name string) ([]byte, error) {
	f, err := h.Blobs.Open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	defer f.Close()
	return io.ReadAll(f)
}

// log answers with the log lines of one host or of all; with follow=true until the operation has ended.
func (h handler) log(w http.ResponseWriter, r *http.Request) error {
	project, name := r.PathValue("project"), r.PathValue("name")
	var op v1alpha1.Operation
	if err := h.Client.Get(r.Context(), client.ObjectKey{Namespace: project, Name: name}, &op); err != nil {
		return err
	}
	p, err := h.hosts(r.Context(), &op, r.URL.Query().Get("host"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &lines{w: w, controller: http.NewResponseController(w)}
	if r.URL.Query().Get("follow") != "true" || op.Status.Phase.Ended() {
		for _, host := range p {
			b, err := h.read(r.Context(), operation.LogName(project, name, host))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := out.write(b); err != nil {
				return err
			}
		}
		return nil
	}
	return h.follow(r.Context(), &op, p, out)
}

// hosts gives the hosts of the operation's plan, or only the one that was asked for.
func (h handler) hosts(ctx context.Context, op *v1alpha1.Operation, only string) ([]string, error) {
	b, err := h.read(ctx, operation.PlanName(op.Namespace, op.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var p struct {
		Hosts []step.Target `json:"hosts"`
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("cannot read the plan of operation %s: %w", op.Name, err)
	}
	var names []string
	for _, t := range p.Hosts {
		if only == "" || only == t.Name {
			names = append(names, t.Name)
		}
	}
	if only != "" && len(names) == 0 {
		return nil, apierrors.NewNotFound(v1alpha1.GroupVersion().WithResource("hosts").GroupResource(), only)
	}
	return names, nil
}

func (h handler) follow(ctx context.Context, op *v1alpha1.Operation, hosts []string, out *lines) error {
	request := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watcher, ok := h.Client.(client.WithWatch)
	if !ok {
		return errors.New("cannot follow: the platform client does not watch")
	}
	changes, err := watcher.Watch(ctx, &v1alpha1.OperationList{}, client.InNamespace(op.Namespace), client.MatchingFields{"metadata.name": op.Name})
	if err != nil {
		return fmt.Errorf("cannot watch operation %s: %w", op.Name, err)
	}
	defer changes.Stop()
	// The answer begins now, and not with the first line, which may be minutes away.
	if err := out.write(nil); err != nil {
		return err
	}
	var wait sync.WaitGroup
	sent := make([]int, len(hosts))
	for i, host := range hosts {
		wait.Go(func() {
			err := h.Blobs.Follow(ctx, operation.LogName(op.Namespace, op.Name, host), 0, func(b []byte) error {
				sent[i] += len(b)
				return out.write(b)
			})
			if err != nil && ctx.Err() == nil {
				h.Log.Error("cannot follow a log", "operation", op.Name, "host", host, "error", err)
			}
		})
	}
	for change := range changes.ResultChan() {
		if o, ok := change.Object.(*v1alpha1.Operation); ok && o.Status.Phase.Ended() {
			break
		}
	}
	cancel()
	wait.Wait()
	// The last lines were written just before the end, and may not have been noticed yet.
	for i, host := range hosts {
		b, err := h.read(request, operation.LogName(op.Namespace, op.Name, host))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(b) <= sent[i] {
			continue
		}
		if err := out.write(b[sent[i]:]); err != nil {
			return err
		}
	}
	return nil
}

// lines writes whole lines from several logs to one client.
type lines struct {
	mu         sync.Mutex
	w          io.Writer
	controller *http.ResponseController
}

func (l *lines) write(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.w.Write(b); err != nil {
		return err
	}
	return l.controller.Flush()
}
