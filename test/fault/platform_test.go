package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"reflect"
	"strconv"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/blob"
)

// platformAPI is as much of the platform's API as the engine uses, and much faster than a general fake: it refuses
// what exists, what does not, and writes to an object that has changed, and keeps status and the rest apart.
type platformAPI struct {
	client.WithWatch // nil: the engine uses nothing else
	mu               sync.Mutex
	objects          map[string]client.Object
	version          int
}

func newPlatformAPI() *platformAPI { return &platformAPI{objects: map[string]client.Object{}} }

func keyOf(o client.Object, key client.ObjectKey) string {
	return reflect.TypeOf(o).String() + " " + key.String()
}

func resource(o client.Object) schema.GroupResource {
	return schema.GroupResource{Group: v1alpha1.GroupVersion().Group, Resource: reflect.TypeOf(o).String()}
}

// keep stores a copy under the next version. The caller holds mu.
func (p *platformAPI) keep(o client.Object) {
	p.version++
	o.SetResourceVersion(strconv.Itoa(p.version))
	p.objects[keyOf(o, client.ObjectKeyFromObject(o))] = o.DeepCopyObject().(client.Object)
}

// Get gives a copy.
func (p *platformAPI) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	have, ok := p.objects[keyOf(o, key)]
	if !ok {
		return apierrors.NewNotFound(resource(o), key.Name)
	}
	fill(o, have)
	return nil
}

func fill(o, from client.Object) {
	reflect.ValueOf(o).Elem().Set(reflect.ValueOf(from.DeepCopyObject()).Elem())
}

// List gives HostRuns, which is all the engine lists.
func (p *platformAPI) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	runs, ok := list.(*v1alpha1.HostRunList)
	if !ok {
		return errors.New("the engine lists HostRuns only")
	}
	var wanted client.ListOptions
	wanted.ApplyOptions(opts)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.objects {
		run, ok := o.(*v1alpha1.HostRun)
		if ok && run.Namespace == wanted.Namespace && (wanted.LabelSelector == nil || wanted.LabelSelector.Matches(labels.Set(run.Labels))) {
			runs.Items = append(runs.Items, *run.DeepCopy())
		}
	}
	return nil
}

// Create refuses what exists.
func (p *platformAPI) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.objects[keyOf(o, client.ObjectKeyFromObject(o))] != nil {
		return apierrors.NewAlreadyExists(resource(o), o.GetName())
	}
	p.keep(o)
	return nil
}

// current gives the stored object that o is a new version of. The caller holds mu.
func (p *platformAPI) current(o client.Object) (client.Object, error) {
	have, ok := p.objects[keyOf(o, client.ObjectKeyFromObject(o))]
	if !ok {
		return nil, apierrors.NewNotFound(resource(o), o.GetName())
	}
	if v := o.GetResourceVersion(); v != "" && v != have.GetResourceVersion() {
		return nil, apierrors.NewConflict(resource(o), o.GetName(), errors.New("the object has been modified"))
	}
	return have, nil
}

// Update stores a claim, which has no status.
func (p *platformAPI) Update(_ context.Context, o client.Object, _ ...client.UpdateOption) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := o.(*v1alpha1.HostClaim); !ok {
		return errors.New("the engine updates HostClaims only")
	}
	if _, err := p.current(o); err != nil {
		return err
	}
	p.keep(o)
	return nil
}

// Status gives the writer of status.
func (p *platformAPI) Status() client.SubResourceWriter { return &platformStatus{api: p} }

type platformStatus struct {
	client.SubResourceWriter // nil: the engine uses nothing else
	api                      *platformAPI
}

// Update stores a HostRun's status and nothing else of it.
func (s *platformStatus) Update(_ context.Context, o client.Object, _ ...client.SubResourceUpdateOption) error {
	s.api.mu.Lock()
	defer s.api.mu.Unlock()
	have, err := s.api.current(o)
	if err != nil {
		return err
	}
	next := have.DeepCopyObject().(*v1alpha1.HostRun)
	o.(*v1alpha1.HostRun).Status.DeepCopyInto(&next.Status)
	s.api.keep(next)
	fill(o, next)
	return nil
}

// Patch merges a patch into an Operation's status.
func (s *platformStatus) Patch(_ context.Context, o client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
	s.api.mu.Lock()
	defer s.api.mu.Unlock()
	have, err := s.api.current(o)
	if err != nil {
		return err
	}
	b, err := patch.Data(o)
	if err != nil {
		return err
	}
	// Every field that the engine patches is given whole, so only null has to be told from a value.
	next := have.DeepCopyObject().(*v1alpha1.Operation)
	next.Status.Failures, next.Status.Message, next.Status.FinishedAt, next.Status.Stages = nil, "", nil, nil
	if err := json.Unmarshal(b, next); err != nil {
		return err
	}
	s.api.keep(next)
	fill(o, next)
	return nil
}

// logs is a blob.Store in memory.
type logs struct {
	mu    sync.Mutex
	blobs map[string][]byte
}

var _ blob.Store = (*logs)(nil)

// Put is blob.Store's.
func (l *logs) Put(_ context.Context, name string, content []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blobs[name] = bytes.Clone(content)
	return nil
}

// Append is blob.Store's.
func (l *logs) Append(_ context.Context, name string, content []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blobs[name] = append(l.blobs[name], content...)
	return nil
}

// Open is blob.Store's.
func (l *logs) Open(_ context.Context, name string) (io.ReadSeekCloser, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	content, ok := l.blobs[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return reading(string(content)), nil
}

// List is blob.Store's.
func (l *logs) List(_ context.Context, prefix string) ([]blob.Info, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []blob.Info
	for name, content := range l.blobs {
		if strings.HasPrefix(name, prefix) {
			found = append(found, blob.Info{Name: name, Size: int64(len(content))})
		}
	}
	return found, nil
}

// Remove is blob.Store's.
func (l *logs) Remove(_ context.Context, prefix string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.blobs {
		if strings.HasPrefix(name, prefix) {
			delete(l.blobs, name)
		}
	}
	return nil
}

func reading(content string) io.ReadSeekCloser {
	return struct {
		io.ReadSeeker
		io.Closer
	}{strings.NewReader(content), io.NopCloser(nil)}
}
