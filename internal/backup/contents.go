package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"slipway.dev/slipway/api/v1alpha1"
)

// Format is the version of the file format. A file of another one is refused.
const Format = "slipway.dev/backup/v1"

// Cluster names the cluster of a backup.
type Cluster struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// UID tells it from an earlier or later cluster of the same name.
	UID string `json:"uid"`
}

// Header is the plain line at the beginning of a file. It is proven only together with the rest.
type Header struct {
	Format  string    `json:"format"`
	Cluster Cluster   `json:"cluster"`
	TakenAt time.Time `json:"takenAt"`
}

// Facts say what was backed up, when and why.
type Facts struct {
	Cluster Cluster `json:"cluster"`
	// TakenAt is when the snapshot began; it is kept in UTC, to the second.
	TakenAt time.Time `json:"takenAt"`
	// KubernetesVersion and EtcdVersion are those that ran, such as v1.36.3 and 3.6.14.
	KubernetesVersion string `json:"kubernetesVersion"`
	EtcdVersion       string `json:"etcdVersion"`
	// Actor is the person or schedule that asked for it, Reason is why; both may be empty.
	Actor  string `json:"actor,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Revision is etcd's and TotalKeys is how many keys the snapshot holds; 0 means not known.
	Revision  int64 `json:"revision,omitempty"`
	TotalKeys int64 `json:"totalKeys,omitempty"`
	// Objects counts those of each resource, as Tally does; nil means not known.
	Objects map[string]int64 `json:"objects,omitempty"`
}

// Host is one control-plane host of the cluster at the time.
type Host struct {
	Name string `json:"name"`
	// Address is where Slipway reached it, InternalAddress where the cluster did.
	Address         string `json:"address"`
	InternalAddress string `json:"internalAddress,omitempty"`
}

// Description is Slipway's own knowledge of the cluster.
type Description struct {
	Spec v1alpha1.ClusterSpec `json:"spec"`
	// ControlPlanes are in the order of the spec.
	ControlPlanes []Host `json:"controlPlanes"`
}

// Contents is what Write puts into a file.
type Contents struct {
	Facts       Facts
	Description Description
	// Keys are the cluster's CAs, service-account key and the like, by their names in its Secret.
	Keys map[string][]byte
	// Snapshot is what etcd's Snapshot call sends: a database and its SHA-256. It is read once, to its end.
	Snapshot io.Reader
}

// Part is one part of a file.
type Part struct {
	Name string `json:"name"`
	// SHA256 is in hex, Size in bytes.
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Manifest says what is in a file. It is its last part.
type Manifest struct {
	Format string `json:"format"`
	Facts
	// HeaderSHA256 is that of the plain line, without its end.
	HeaderSHA256 string `json:"headerSHA256"`
	// Parts lists the other parts, in their order.
	Parts []Part `json:"parts"`
}

// The parts, in their order.
const (
	partDescription = "description"
	partKeys        = "keys"
	partSnapshot    = "snapshot"
	partManifest    = "manifest"
)

func (c Cluster) check() error {
	if c.Namespace == "" || c.Name == "" || c.UID == "" {
		return errors.New("the cluster needs a namespace, a name and a UID")
	}
	return nil
}

func (f Facts) check() error {
	if err := f.Cluster.check(); err != nil {
		return err
	}
	switch {
	case f.TakenAt.IsZero():
		return errors.New("the time is missing")
	case f.KubernetesVersion == "" || f.EtcdVersion == "":
		return errors.New("the versions of Kubernetes and etcd are missing")
	case f.Revision < 0 || f.TotalKeys < 0:
		return errors.New("the revision or the number of keys is negative")
	}
	return nil
}

func (d Description) check() error {
	if len(d.Spec.ControlPlane.Hosts) == 0 || len(d.ControlPlanes) == 0 {
		return errors.New("the description of the cluster has no control plane")
	}
	for _, h := range d.ControlPlanes {
		if h.Name == "" || h.Address == "" {
			return errors.New("a control plane has no name or no address")
		}
	}
	return nil
}

func (c Contents) check() error {
	if c.Snapshot == nil {
		return errors.New("the snapshot is missing")
	}
	if err := checkKeys(c.Keys); err != nil {
		return err
	}
	return errors.Join(c.Facts.check(), c.Description.check())
}

func checkKeys(keys map[string][]byte) error {
	if len(keys) == 0 {
		return errors.New("the keys of the cluster are missing")
	}
	for name, value := range keys {
		if name == "" || len(value) == 0 {
			return fmt.Errorf("key %q of the cluster is empty", name)
		}
	}
	return nil
}

// decode reads one JSON value and refuses what it does not know: a newer Slipway may mean something by it.
func decode(content []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the end")
	}
	return nil
}
