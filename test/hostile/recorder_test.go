package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fakecluster "slipway.dev/slipway/internal/cluster/fake"
	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/step"
)

// recorder is a host that changes nothing and keeps everything that is sent to it. It reads from a fake host.
type recorder struct {
	*fakehost.Host
	fence   host.Fence
	files   []sent
	removed []string
	runs    []run
}

// sent is one file.
type sent struct {
	path    string
	content []byte
	mode    string
}

// run is one command.
type run struct {
	argv, env []string
	stdin     []byte
}

func (r *recorder) WriteFile(_ context.Context, path string, f host.File) error {
	c, err := host.WriteFileCommand(path, f)
	if err != nil {
		return err
	}
	if _, err := host.FencedArgv(host.DefaultFencePlace(), r.fence, c); err != nil {
		return err
	}
	r.files = append(r.files, sent{path, bytes.Clone(f.Content), f.Permissions().String()})
	return nil
}

func (r *recorder) Remove(_ context.Context, paths ...string) error {
	if _, err := host.RemoveCommand(paths); err != nil {
		return err
	}
	r.removed = append(r.removed, paths...)
	return nil
}

func (r *recorder) Run(_ context.Context, c host.Command) (host.Result, error) {
	if _, err := host.FencedArgv(host.DefaultFencePlace(), r.fence, c); err != nil {
		return host.Result{}, err
	}
	var stdin []byte
	if c.Stdin != nil {
		var err error
		if stdin, err = io.ReadAll(c.Stdin); err != nil {
			return host.Result{}, err
		}
	}
	r.runs = append(r.runs, run{c.Argv, c.Env, stdin})
	return host.Result{}, nil
}

// managed is a cluster that has one node and keeps what is applied to it.
type managed struct {
	fakecluster.Etcd
	applied []map[string]any
}

func (m *managed) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	if n, ok := o.(*corev1.Node); ok {
		n.Name, n.Spec.PodCIDR = key.Name, "172.25.3.0/24"
		return nil
	}
	return apierrors.NewNotFound(schema.GroupResource{Resource: "objects"}, key.Name)
}

func (m *managed) List(context.Context, client.ObjectList, ...client.ListOption) error { return nil }
func (m *managed) Ready(context.Context, string) error                                 { return nil }
func (m *managed) Ask(context.Context, string, string) ([]byte, error)                 { return nil, nil }
func (m *managed) Delete(context.Context, client.Object, ...client.DeleteOption) error {
	return nil
}
func (m *managed) Patch(context.Context, client.Object, client.Patch, ...client.PatchOption) error {
	return nil
}
func (m *managed) Evict(context.Context, string, string, *int64) error { return nil }

func (m *managed) Apply(_ context.Context, o runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		return err
	}
	m.applied = append(m.applied, fields)
	return nil
}

// vault gives every secret a value of its own; authority is that of certificates.
type vault struct{ authority []byte }

func (v vault) Secret(_ context.Context, ref step.SecretRef) ([]byte, error) {
	if strings.HasSuffix(ref.Key, ".crt") {
		return v.authority, nil
	}
	return []byte("value-of-" + ref.Key), nil
}

// shelf gives every blob as the manifest of an image whose only part is itself.
type shelf struct{}

type closing struct{ io.ReadSeeker }

func (closing) Close() error { return nil }

func (shelf) Blob(_ context.Context, d string) (io.ReadSeekCloser, int64, error) {
	if err := digest.Digest(d).Validate(); err != nil {
		return nil, 0, err
	}
	content := fmt.Sprintf(`{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {"digest": %q}}`, d)
	return closing{strings.NewReader(content)}, int64(len(content)), nil
}

// errUnreadable says that a file was sent that its reader refuses: a string has broken it.
var errUnreadable = errors.New("its reader cannot read it")

// play applies one step on one host and gives all that was sent, taken apart as its reader takes it apart.
func play(ctx context.Context, on *fakehost.Host, t step.Target, v vault, s step.Step) (shape, error) {
	r := &recorder{Host: on, fence: host.Fence{Owner: "home", Epoch: 1}}
	cluster := &managed{}
	reader := step.Reader{Reader: on, Target: t, Secrets: v, Cluster: cluster}
	w := step.Writer{Writer: r, Target: t, Secrets: v, Blobs: shelf{}, Cluster: cluster, Reading: reader}
	if err := s.Apply(ctx, w); err != nil {
		return nil, err
	}
	var out shape
	for _, f := range r.files {
		out.add("write "+f.path, "mode", f.mode)
		if err := out.file(f.path, f.content); err != nil {
			return nil, fmt.Errorf("%w: %s: %w\n%s", errUnreadable, f.path, err, f.content)
		}
	}
	for _, path := range r.removed {
		out.add("remove", "path", path)
	}
	for n, c := range r.runs {
		for i, word := range c.argv {
			out.add(fmt.Sprintf("run %d argv[%d]", n, i), "word", word)
		}
		for _, e := range c.env {
			out.add(fmt.Sprintf("run %d env", n), "word", e)
		}
		if err := out.stdin(fmt.Sprintf("run %d stdin", n), c); err != nil {
			return nil, err
		}
	}
	for _, o := range cluster.applied {
		// Its digest says that something differs, which is what this is about.
		if m, ok := o["metadata"].(map[string]any); ok {
			delete(m, "annotations")
		}
		out.value("apply", o)
	}
	return out, nil
}
