// Command prepare owns the export of a bundle into the archives that the baseline script sends to hosts: node programs as
// tar, images as OCI archives. It must never change the bundle store, and none of its work is part of a measurement.
package main

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	imageAnnotation = "slipway.dev/image"
	nameAnnotation  = "slipway.dev/name"
	// importName is the annotation from which `ctr images import` takes an image's name.
	importName = "io.containerd.image.name"
	indexType  = "application/vnd.oci.image.index.v1+json"
)

// descriptor is the part of an OCI descriptor that matters here.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     json.RawMessage   `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

// manifest is the part of an OCI index or manifest that matters here.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`
}

type image struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	NodeRole string `json:"nodeRole"`
}

type store string

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: prepare STORE VERSION DIRECTORY")
		os.Exit(2)
	}
	if err := export(store(os.Args[1]), os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// export writes runtime.tar, kubernetes.tar, an archive of images for each kind of node, one of kube-vip, kubectl and
// images.env.
func export(s store, version, out string) error {
	files, images, described, err := s.bundle(version)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("cannot make the work directory: %w", err)
	}
	places := map[string]map[string]string{
		"runtime.tar": {
			"containerd": "usr/local/bin", "containerd-shim-runc-v2": "usr/local/bin", "ctr": "usr/local/bin", "runc": "usr/local/bin",
			"crictl": "usr/local/bin", "bridge": "opt/cni/bin", "host-local": "opt/cni/bin", "loopback": "opt/cni/bin", "portmap": "opt/cni/bin",
		},
		"kubernetes.tar": {"kubeadm": "usr/local/bin", "kubelet": "usr/local/bin", "kubectl": "usr/local/bin"},
	}
	for name, dirs := range places {
		if err := write(filepath.Join(out, name), func(t *tar.Writer) error { return s.programs(t, files, dirs) }); err != nil {
			return err
		}
	}
	var controlPlane, worker, address []descriptor
	var names strings.Builder
	for _, i := range described {
		n := slices.IndexFunc(images, func(d descriptor) bool { return d.Annotations[imageAnnotation] == i.Name })
		if n < 0 {
			return fmt.Errorf("cannot find image %s in the bundle's index", i.Name)
		}
		if i.Role == "kube-vip" {
			address = append(address, images[n])
		} else {
			controlPlane = append(controlPlane, images[n])
		}
		if i.NodeRole != "control-plane" || i.Role == "coredns" {
			worker = append(worker, images[n])
		}
		role := strings.ReplaceAll(strings.ToUpper(i.Role), "-", "_")
		fmt.Fprintf(&names, "IMAGE_%s=%s\n", role, i.Name)
	}
	if err := os.WriteFile(filepath.Join(out, "images.env"), []byte(names.String()), 0o644); err != nil {
		return fmt.Errorf("cannot write the names of images: %w", err)
	}
	archives := map[string][]descriptor{"control-plane-images.tar": controlPlane, "worker-images.tar": worker, "kube-vip-images.tar": address}
	for name, set := range archives {
		if err := write(filepath.Join(out, name), func(t *tar.Writer) error { return s.images(t, set) }); err != nil {
			return err
		}
	}
	n := slices.IndexFunc(files, func(d descriptor) bool { return d.Annotations[nameAnnotation] == "kubectl" })
	if n < 0 {
		return fmt.Errorf("cannot find kubectl in the bundle")
	}
	content, err := s.read(files[n].Digest)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "kubectl"), content, 0o755)
}

func (s store) path(digest string) string {
	return filepath.Join(string(s), "blobs", strings.Replace(digest, ":", "/", 1))
}

func (s store) read(digest string) ([]byte, error) {
	b, err := os.ReadFile(s.path(digest))
	if err != nil {
		return nil, fmt.Errorf("cannot read a blob of the bundle: %w", err)
	}
	return b, nil
}

func (s store) decode(digest string, into any) error {
	b, err := s.read(digest)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("cannot read blob %s: %w", digest, err)
	}
	return nil
}

// bundle gives the descriptors of node files and of images, and what the bundle's own manifest says of the images.
func (s store) bundle(version string) (files, images []descriptor, described []image, err error) {
	b, err := os.ReadFile(filepath.Join(string(s), "index.json"))
	if err != nil {
		return nil, nil, nil, fmt.Errorf("cannot read the bundle store: %w", err)
	}
	var top, bundle, list manifest
	if err := json.Unmarshal(b, &top); err != nil {
		return nil, nil, nil, fmt.Errorf("cannot read the bundle store: %w", err)
	}
	n := slices.IndexFunc(top.Manifests, func(d descriptor) bool {
		return d.Annotations["org.opencontainers.image.ref.name"] == version
	})
	if n < 0 {
		return nil, nil, nil, fmt.Errorf("cannot find bundle %s in the store: run `make bundle`", version)
	}
	if err := s.decode(top.Manifests[n].Digest, &bundle); err != nil {
		return nil, nil, nil, err
	}
	for _, d := range bundle.Manifests {
		if d.Annotations[imageAnnotation] != "" {
			images = append(images, d)
			continue
		}
		if err := s.decode(d.Digest, &list); err != nil {
			return nil, nil, nil, err
		}
		files = list.Layers
	}
	if list.Config == nil {
		return nil, nil, nil, fmt.Errorf("cannot find the node files of bundle %s", version)
	}
	var about struct {
		Images []image `json:"images"`
	}
	err = s.decode(list.Config.Digest, &about)
	return files, images, about.Images, err
}

func write(path string, fill func(*tar.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("cannot write an archive: %w", err)
	}
	defer f.Close()
	t := tar.NewWriter(f)
	if err := fill(t); err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return f.Close()
}

func (s store) programs(t *tar.Writer, files []descriptor, dirs map[string]string) error {
	found := 0
	for _, d := range files {
		name := d.Annotations[nameAnnotation]
		if dir, wanted := dirs[name]; wanted {
			found++
			if err := s.add(t, d.Digest, dir+"/"+name, 0o755); err != nil {
				return err
			}
		}
	}
	if found != len(dirs) {
		return fmt.Errorf("cannot find all node programs: %d of %d are in the bundle", found, len(dirs))
	}
	return nil
}

// images writes an OCI archive: layout, index, then every blob once.
func (s store) images(t *tar.Writer, set []descriptor) error {
	index := manifest{SchemaVersion: 2, MediaType: indexType}
	var blobs []string
	for _, d := range set {
		name := d.Annotations[imageAnnotation]
		d.Annotations = map[string]string{importName: name}
		index.Manifests = append(index.Manifests, d)
		var m manifest
		if err := s.decode(d.Digest, &m); err != nil {
			return err
		}
		blobs = append(blobs, d.Digest, m.Config.Digest)
		for _, l := range m.Layers {
			blobs = append(blobs, l.Digest)
		}
	}
	b, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("cannot encode an index: %w", err)
	}
	for name, content := range map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": b} {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return fmt.Errorf("cannot write an image archive: %w", err)
		}
		if _, err := t.Write(content); err != nil {
			return fmt.Errorf("cannot write an image archive: %w", err)
		}
	}
	slices.Sort(blobs)
	for _, digest := range slices.Compact(blobs) {
		if err := s.add(t, digest, "blobs/"+strings.Replace(digest, ":", "/", 1), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (s store) add(t *tar.Writer, digest, name string, mode int64) error {
	f, err := os.Open(s.path(digest))
	if err != nil {
		return fmt.Errorf("cannot read a blob of the bundle: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cannot read a blob of the bundle: %w", err)
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: info.Size()}); err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	if _, err := io.Copy(t, f); err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	return nil
}
