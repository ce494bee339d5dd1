// Package bundletest makes tiny bundles for tests: complete and verifiable, with a few bytes in place of programs.
//
// It must only be imported by tests.
package bundletest

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway.dev/slipway/internal/bundle"
)

// Options says how a bundle differs from a complete one for amd64.
type Options struct {
	// Name is the bundle's name and Kubernetes version; by default v1.36.3.
	Name string
	// Architectures lists the architectures; by default amd64.
	Architectures []string
	// OmitRoles leaves out the images with these roles.
	OmitRoles []string
	// OmitFiles leaves out these node files.
	OmitFiles []string
	// ConfigArchitecture is what image configs claim; by default the image's architecture.
	ConfigArchitecture string
	// Machine is what node files are executables for; by default the file's architecture.
	Machine elf.Machine
}

// images gives the names of the images by role.
func images(version string) map[string]string {
	return map[string]string{
		bundle.RoleKubeAPIServer:         "registry.k8s.io/kube-apiserver:" + version,
		bundle.RoleKubeControllerManager: "registry.k8s.io/kube-controller-manager:" + version,
		bundle.RoleKubeScheduler:         "registry.k8s.io/kube-scheduler:" + version,
		bundle.RoleKubeProxy:             "registry.k8s.io/kube-proxy:" + version,
		bundle.RoleEtcd:                  "registry.k8s.io/etcd:3.6.9-0",
		bundle.RoleCoreDNS:               "registry.k8s.io/coredns/coredns:v1.14.2",
		bundle.RolePause:                 "registry.k8s.io/pause:3.10.2",
		bundle.RoleFlannel:               "ghcr.io/flannel-io/flannel:v0.26.7",
	}
}

// files gives the node files by name, with their components.
func files() map[string]string {
	return map[string]string{
		"kubeadm": "kubernetes", "kubelet": "kubernetes", "kubectl": "kubernetes",
		"containerd": "containerd", "containerd-shim-runc-v2": "containerd", "ctr": "containerd",
		"runc": "runc", "crictl": "crictl", "etcdctl": "etcd", "etcdutl": "etcd",
		"bandwidth": "cni-plugins", "bridge": "cni-plugins", "firewall": "cni-plugins", "host-local": "cni-plugins",
		"loopback": "cni-plugins", "portmap": "cni-plugins", "ptp": "cni-plugins",
	}
}

// Write adds a tiny bundle to a store. A bundle that the options make incomplete or wrong is refused by the store, and
// that error is given.
func Write(ctx context.Context, s *bundle.Store, o Options) (m *bundle.Manifest, err error) {
	if o.Name == "" {
		o.Name = "v1.36.3"
	}
	if len(o.Architectures) == 0 {
		o.Architectures = []string{"amd64"}
	}
	w, err := s.Writer(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	m = &bundle.Manifest{
		Name: o.Name, KubernetesVersion: o.Name, Architectures: o.Architectures,
		Components: map[string]string{
			"kubernetes": o.Name, "etcd": "3.6.9", "coredns": "v1.14.2", "pause": "3.10.2", "containerd": "v2.3.2",
			"runc": "v1.4.2", "cni-plugins": "v1.9.1", "flannel": "v0.26.7", "crictl": "v1.36.0",
		},
	}
	f := &writer{ctx: ctx, w: w, o: o, m: m}
	for _, architecture := range o.Architectures {
		if err := f.images(architecture); err != nil {
			return nil, err
		}
	}
	layers := map[string][]ocispec.Descriptor{}
	for _, architecture := range o.Architectures {
		if layers[architecture], err = f.files(architecture); err != nil {
			return nil, err
		}
	}
	root, err := f.index(layers)
	if err != nil {
		return nil, err
	}
	return m, w.Commit(ctx, o.Name, root, nil)
}

type writer struct {
	ctx       context.Context
	w         *bundle.Writer
	o         Options
	m         *bundle.Manifest
	manifests []ocispec.Descriptor
}

func sorted(m map[string]string) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func nodeRole(name string) string {
	if slices.Contains([]string{"kube-proxy", "pause", "flannel", "coredns"}, name) {
		return bundle.NodeRoleAll
	}
	return bundle.NodeRoleControlPlane
}

func (f *writer) images(architecture string) error {
	names := images(f.o.Name)
	for _, role := range sorted(names) {
		if slices.Contains(f.o.OmitRoles, role) {
			continue
		}
		content := "layer of " + role + " for " + architecture
		layer, size, err := f.w.PutBlob(f.ctx, strings.NewReader(content))
		if err != nil {
			return err
		}
		claimed := architecture
		if f.o.ConfigArchitecture != "" {
			claimed = f.o.ConfigArchitecture
		}
		config, err := f.w.PutJSON(f.ctx, ocispec.MediaTypeImageConfig, ocispec.Image{
			Platform: ocispec.Platform{OS: "linux", Architecture: claimed},
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer}},
		})
		if err != nil {
			return err
		}
		d, err := f.w.PutJSON(f.ctx, ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config,
			Layers: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: layer, Size: size}},
		})
		if err != nil {
			return err
		}
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: architecture}
		d.Annotations = map[string]string{bundle.AnnotationImage: names[role]}
		f.manifests = append(f.manifests, d)
		f.m.Images = append(f.m.Images, bundle.Image{
			Name: names[role], Role: role, NodeRole: nodeRole(role), Architecture: architecture, Digest: d.Digest,
			Size: size + config.Size + d.Size,
		})
	}
	return nil
}

func (f *writer) files(architecture string) ([]ocispec.Descriptor, error) {
	var layers []ocispec.Descriptor
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[architecture]
	if f.o.Machine != 0 {
		machine = f.o.Machine
	}
	components := files()
	for _, name := range sorted(components) {
		if slices.Contains(f.o.OmitFiles, name) {
			continue
		}
		d, size, err := f.w.PutBlob(f.ctx, bytes.NewReader(Executable(machine, name)))
		if err != nil {
			return nil, err
		}
		layers = append(layers, ocispec.Descriptor{
			MediaType: bundle.MediaTypeFile, Digest: d, Size: size,
			Annotations: map[string]string{
				bundle.AnnotationName: name, bundle.AnnotationComponent: components[name], bundle.AnnotationMode: "0755",
				bundle.AnnotationVersion: f.m.Components[components[name]],
			},
		})
		f.m.Files = append(f.m.Files, bundle.File{
			Name: name, Component: components[name], NodeRole: bundle.NodeRoleAll, Architecture: architecture,
			Digest: d, Size: size, Mode: 0o755,
		})
	}
	return layers, nil
}

func (f *writer) index(layers map[string][]ocispec.Descriptor) (ocispec.Descriptor, error) {
	config, err := f.w.PutJSON(f.ctx, bundle.MediaTypeManifest, f.m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, architecture := range f.o.Architectures {
		d, err := f.w.PutJSON(f.ctx, ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			ArtifactType: bundle.ArtifactTypeFiles, Config: config, Layers: layers[architecture],
		})
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		d.ArtifactType = bundle.ArtifactTypeFiles
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: architecture}
		f.manifests = append(f.manifests, d)
	}
	return f.w.PutJSON(f.ctx, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		ArtifactType: bundle.ArtifactTypeBundle, Manifests: f.manifests,
	})
}

// Executable gives the smallest ELF file for a machine, followed by a text that makes it unique.
func Executable(machine elf.Machine, text string) []byte {
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64,
		Phentsize: 56, Shentsize: 64,
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	header.Ident[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	var b bytes.Buffer
	// A bytes.Buffer takes everything.
	_ = binary.Write(&b, binary.LittleEndian, header)
	b.WriteString(text)
	return b.Bytes()
}
