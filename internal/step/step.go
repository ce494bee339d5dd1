// Package step owns the contract of a step: plain data that can say what differs on one host and make it so.
// It must never know the engine that runs it, and a step never logs, sleeps, retries or loops.
package step

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/host"
)

// ID names a kind of step and its version, such as containerd.configure/v1.
// It is stored in every plan, so it is never renamed; a change of meaning takes a new version.
type ID string

// Step is one idempotent action on one host. It is plain data: the plan stores its ID and its fields as JSON.
type Step interface {
	// ID is constant for the type.
	ID() ID
	// Check only reads, and says what differs from what the step wants. No drift means done.
	// An error of class Waiting means that what Apply began has not finished.
	Check(ctx context.Context, r Reader) (Drift, error)
	// Apply makes it so. It may be cut off anywhere and run again. Success is decided by the Check that follows.
	Apply(ctx context.Context, w Writer) error
}

// Needer is a step that uses what other steps give.
type Needer interface {
	// Needs lists the outputs that must exist before the step can be checked.
	Needs() []Output
}

// Passer is a step whose effect passes: a later step of its stage, or what the cluster does by itself, takes it back, such as
// a drained node that gets pods again. Once all of its stage is done on a host, an operation that resumes or is retried leaves
// it out there; every other step is looked at again.
type Passer interface {
	// Passes marks the step and does nothing.
	Passes()
}

// Giver is a step that makes something others need.
type Giver interface {
	// Gives lists the outputs that exist once the step is done.
	Gives() []Output
}

// Output is something one step makes and another needs. Plans are refused when a need is not given earlier.
type Output string

// The outputs. Those of a host are given and needed on the same host; those of a cluster by any host.
const (
	// RuntimeFiles are the container runtime's programs on the host.
	RuntimeFiles Output = "host/runtime-files"
	// Runtime is the running container runtime.
	Runtime Output = "host/runtime"
	// KubernetesFiles are kubelet and kubeadm on the host.
	KubernetesFiles Output = "host/kubernetes-files"
	// KubeadmConfig is kubeadm's configuration file on the host.
	KubeadmConfig Output = "host/kubeadm-config"
	// ControlPlaneKeys are certificates and kubeconfigs on the host.
	ControlPlaneKeys Output = "host/control-plane-keys"
	// ControlPlaneManifests are the static pods' manifests on the host.
	ControlPlaneManifests Output = "host/control-plane-manifests"
	// EtcdMembership is the host's membership in etcd, a learner's at first.
	EtcdMembership Output = "host/etcd-membership"
	// ServedAPI is the API server of the host itself, answering.
	ServedAPI Output = "host/api"
	// API is the cluster's API server, answering.
	API Output = "cluster/api"
	// JoinInformation is what a joining node reads from the cluster.
	JoinInformation Output = "cluster/join-information"
	// RestoreFiles are the programs that put an etcd snapshot back, on the host.
	RestoreFiles Output = "host/restore-files"
	// StoredConfig is what kubeadm stores in the cluster for kubelets and those who join.
	StoredConfig Output = "cluster/stored-config"
	// KubeletConfig is the configuration of the host's kubelet.
	KubeletConfig Output = "host/kubelet-config"
	// Network is the pod network's manifest in the cluster.
	Network Output = "cluster/network"
)

// OfCluster says that any host can give the output for every other.
func (o Output) OfCluster() bool { return strings.HasPrefix(string(o), "cluster/") }

// Where a host keeps what Slipway must remember about it. Giving the host back removes all of it.
const (
	// StateDir holds everything, the fence included.
	StateDir = "/var/lib/slipway"
	// MarkerPath says which cluster the host belongs to, from the first change on.
	MarkerPath = StateDir + "/cluster"
	// BeforeDir holds what the host looked like before.
	BeforeDir = StateDir + "/before"
	// BeforeSysctls keeps kernel parameters, one "key = value" a line.
	BeforeSysctls = BeforeDir + "/sysctl.conf"
	// BeforeAbsent lists paths that were not there, one a line: what Kubernetes makes of them goes again.
	BeforeAbsent = BeforeDir + "/absent"
	// BeforeTables keeps the nft tables, one "family name" a line.
	BeforeTables = BeforeDir + "/nft-tables"
	// BeforeUnits keeps the units that the set-up of the host touches, one "name active-state file-state" a line.
	BeforeUnits = BeforeDir + "/units"
	// BeforeSwaps keeps the swap areas that were on, one a line.
	BeforeSwaps = BeforeDir + "/swaps"
	// BeforeSELinux keeps where SELinux was enforcing: SELinuxLive, its configuration file, or both, one a line.
	BeforeSELinux = BeforeDir + "/selinux"
	// KubeletRestart is there while a kubelet runs with a configuration that was replaced.
	KubeletRestart = StateDir + "/kubelet-restart"
	// SELinuxLive is the kernel's own switch.
	SELinuxLive = "/sys/fs/selinux/enforce"
	// SwapComment is in front of a line of /etc/fstab that was turned off.
	SwapComment = "# turned off by Slipway: "
)

// Target is a host as the plan saw it.
type Target struct {
	// Name is that of the Host, and of the node.
	Name string `json:"name"`
	// Address is the internal address: the node's IP.
	Address string `json:"address"`
	// Architecture is in Go's words.
	Architecture string `json:"architecture"`
	// ControlPlane says that the host runs etcd and the API server.
	ControlPlane bool `json:"controlPlane,omitempty"`
	// CgroupV1 says that the host still uses cgroup v1.
	CgroupV1 bool `json:"cgroupV1,omitempty"`
	// RestrictOOMScore says that root may not lower a process's OOM score there.
	RestrictOOMScore bool `json:"restrictOOMScore,omitempty"`
	// MTU is that of the NIC that carries Address; 0 when unknown.
	MTU int32 `json:"mtu,omitempty"`
	// NIC names the one that carries Address; "" when unknown.
	NIC string `json:"nic,omitempty"`
	// Platform is the address by which this host reaches the server, as HOST:PORT.
	Platform string `json:"platform,omitempty"`
	// Labels and Taints are put on the node when it registers. A taint reads key=value:Effect.
	Labels map[string]string `json:"labels,omitempty"`
	Taints []string          `json:"taints,omitempty"`
}

// SecretRef points to one key of a Secret in slipway-system. Plans carry references, never values.
type SecretRef struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// Secrets reads secret values.
type Secrets interface {
	// Secret gives the value; a missing Secret or key is an error.
	Secret(ctx context.Context, ref SecretRef) ([]byte, error)
}

// Blobs reads what bundles hold, by digest ("sha256:...").
type Blobs interface {
	// Blob gives the content, its size in bytes, and fails when the store has no such blob.
	Blob(ctx context.Context, digest string) (io.ReadSeekCloser, int64, error)
}

// Reader is what Check may use: one host and the cluster, read-only.
type Reader struct {
	host.Reader
	Target  Target
	Secrets Secrets
	Cluster ClusterReader
	// Backups proves what the server keeps.
	Backups BackupReader
	// Dial opens a TCP connection from the host, as seen from there.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// ClusterReader is the reading half of a managed cluster's API and its etcd.
type ClusterReader interface {
	client.Reader
	EtcdReader
	// Ready asks /readyz of the API server on the named host, and gives nil when it answers ok.
	Ready(ctx context.Context, host string) error
	// Ask gives what the API server on the named host itself answers at a path that no object has, such as /version.
	Ask(ctx context.Context, host, path string) ([]byte, error)
}

// ClusterWriter is the changing half of a managed cluster's API and its etcd.
type ClusterWriter interface {
	client.Reader
	EtcdWriter
	// Apply applies on the server's side.
	Apply(ctx context.Context, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error
	// Patch changes an object that exists, and only what the patch names.
	Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.PatchOption) error
	// Delete deletes one object; one that is gone is fine.
	Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error
	// Evict asks for a pod to go, with its own grace period in seconds when gracePeriod is nil; one that is gone is fine.
	// Where a disruption budget forbids it, the API's answer is returned as it is: apierrors.HasStatusCause knows it by
	// policyv1.DisruptionBudgetCause.
	Evict(ctx context.Context, namespace, pod string, gracePeriod *int64) error
}

// Writer is what Apply may use.
type Writer struct {
	host.Writer
	Target  Target
	Secrets Secrets
	Blobs   Blobs
	Cluster ClusterWriter
	Backups BackupWriter
	// Reading is what Check would see.
	Reading Reader
}

// Drift lists what differs from what a step wants.
type Drift []Difference

// Difference is one thing that differs.
type Difference struct {
	// What names the thing: a path, a unit, a kernel parameter, an object.
	What string `json:"what"`
	// Have is what was found, "" when nothing. Never a secret.
	Have string `json:"have,omitempty"`
	// Want is what the step makes of it. Never a secret.
	Want string `json:"want"`
}

// Clean says that nothing differs.
func (d Drift) Clean() bool { return len(d) == 0 }

// Want notes a difference when have is not want.
func (d *Drift) Want(what, have, want string) {
	if have != want {
		*d = append(*d, Difference{What: what, Have: have, Want: want})
	}
}

// WantFile notes a difference when the file at path does not hold exactly f, its mode included.
// Content never enters the drift: it may be secret.
func (d *Drift) WantFile(ctx context.Context, r host.Reader, path string, f host.File) error {
	have, err := r.ReadFile(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		d.Want(path, "", "present")
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	if string(have) != string(f.Content) {
		d.Want(path, "other content", "the planned content")
		return nil
	}
	info, err := r.Stat(ctx, path)
	if err != nil {
		return fmt.Errorf("cannot read the mode of %s: %w", path, err)
	}
	d.Want(path+" mode", info[0].Mode.Perm().String(), f.Permissions().String())
	return nil
}
