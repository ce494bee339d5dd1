package bundle

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Media types and annotations that make an OCI layout a Slipway bundle.
const (
	// ArtifactTypeBundle is the artifact type of a bundle's OCI image index.
	ArtifactTypeBundle = "application/vnd.slipway.bundle.v1"
	// ArtifactTypeFiles is the artifact type of the manifest that lists the node files of one architecture.
	ArtifactTypeFiles = "application/vnd.slipway.bundle.files.v1"
	// MediaTypeManifest is the media type of the bundle manifest, the config blob of every files artifact.
	MediaTypeManifest = "application/vnd.slipway.bundle.manifest.v1+json"
	// MediaTypeFile is the media type of one node file, stored raw: the blob's digest is the file's sha256.
	MediaTypeFile = "application/vnd.slipway.bundle.file.v1"

	// AnnotationImage is the normal image name of a container image, such as registry.k8s.io/pause:3.10.2.
	AnnotationImage = "slipway.dev/image"
	// AnnotationName is the name of a node file, such as kubelet.
	AnnotationName = "slipway.dev/name"
	// AnnotationComponent is the component a node file comes from, such as cni-plugins.
	AnnotationComponent = "slipway.dev/component"
	// AnnotationMode is the permission of a node file as four octal digits, such as 0755.
	AnnotationMode = "slipway.dev/mode"
	// AnnotationVersion is the version of the component a node file comes from.
	AnnotationVersion = "slipway.dev/version"
)

// Repository is the repository name under which the registry serves whole bundles; the tags are bundle names.
const Repository = "slipway.dev/bundle"

// Node roles say which nodes need an image or a file.
const (
	// NodeRoleAll marks what every node needs.
	NodeRoleAll = "all"
	// NodeRoleControlPlane marks what only control-plane nodes need.
	NodeRoleControlPlane = "control-plane"
)

// Image roles name what an image is for, whatever its name and version are.
const (
	RoleKubeAPIServer         = "kube-apiserver"
	RoleKubeControllerManager = "kube-controller-manager"
	RoleKubeScheduler         = "kube-scheduler"
	RoleKubeProxy             = "kube-proxy"
	RoleEtcd                  = "etcd"
	RoleCoreDNS               = "coredns"
	RolePause                 = "pause"
	RoleFlannel               = "flannel"
	RoleKubeVIP               = "kube-vip"
)

// Manifest says what a bundle holds. It is plain data, the same for every architecture of the bundle.
type Manifest struct {
	// Name is the bundle's name in its store, such as v1.36.3.
	Name string `json:"name"`
	// KubernetesVersion is the Kubernetes version with its leading v.
	KubernetesVersion string `json:"kubernetesVersion"`
	// Architectures lists the Go names of the architectures held, sorted, such as amd64.
	Architectures []string `json:"architectures"`
	// Components gives the version of each component: kubernetes, etcd, coredns, pause, containerd, runc,
	// cni-plugins, flannel, kube-vip, crictl.
	Components map[string]string `json:"components"`
	// LockDigest is the sha256 of the lock file the bundle was built from; empty when it was not built from one.
	LockDigest digest.Digest `json:"lockDigest,omitempty"`
	// Images lists the container images, one entry for each name and architecture.
	Images []Image `json:"images"`
	// Files lists the node files, one entry for each name and architecture.
	Files []File `json:"files"`
}

// Image is one container image of a bundle, for one architecture.
type Image struct {
	// Name is the normal image name with its tag, such as registry.k8s.io/etcd:3.6.9-0.
	Name string `json:"name"`
	// Role says what the image is for, such as etcd.
	Role string `json:"role"`
	// NodeRole says which nodes need it: all or control-plane.
	NodeRole string `json:"nodeRole"`
	// Architecture is the Go name of the architecture, such as amd64.
	Architecture string `json:"architecture"`
	// Digest is the digest of the OCI image manifest.
	Digest digest.Digest `json:"digest"`
	// Size is the number of bytes to transfer: manifest, config and compressed layers.
	Size int64 `json:"size"`
}

// Repository gives the image name without its tag.
func (i Image) Repository() string {
	repository, _ := splitTag(i.Name)
	return repository
}

// Tag gives the tag of the image name.
func (i Image) Tag() string {
	_, tag := splitTag(i.Name)
	return tag
}

// File is one node file of a bundle, for one architecture.
type File struct {
	// Name is the base name of the file, such as kubelet.
	Name string `json:"name"`
	// Component is the component the file comes from, such as kubernetes.
	Component string `json:"component"`
	// NodeRole says which nodes need it: all or control-plane.
	NodeRole string `json:"nodeRole"`
	// Architecture is the Go name of the architecture, such as amd64.
	Architecture string `json:"architecture"`
	// Digest is the sha256 of the file itself.
	Digest digest.Digest `json:"digest"`
	// Size is the size of the file in bytes.
	Size int64 `json:"size"`
	// Mode is the permission of the file on a node, such as 0o755.
	Mode uint32 `json:"mode"`
}

// Image finds the image with a role and an architecture; false when the bundle has none.
func (m *Manifest) Image(role, architecture string) (Image, bool) {
	for _, image := range m.Images {
		if image.Role == role && image.Architecture == architecture {
			return image, true
		}
	}
	return Image{}, false
}

// File finds the node file with a name and an architecture; false when the bundle has none.
func (m *Manifest) File(name, architecture string) (File, bool) {
	for _, file := range m.Files {
		if file.Name == name && file.Architecture == architecture {
			return file, true
		}
	}
	return File{}, false
}

// Validate refuses names that a program on a host, or its configuration, could take for something else: they come from
// whoever made the bundle.
func (m *Manifest) Validate() error {
	for _, word := range m.words() {
		if !validWord.MatchString(word) {
			return fmt.Errorf("%q is neither a name nor a version", word)
		}
	}
	for _, i := range m.Images {
		if len(i.Name) > maxImageName || !validImage.MatchString(i.Name) {
			return fmt.Errorf("%q is no name of an image", i.Name)
		}
		if err := i.Digest.Validate(); err != nil {
			return fmt.Errorf("image %s has the digest %q: %w", i.Name, i.Digest, err)
		}
	}
	for _, f := range m.Files {
		if !validName.MatchString(f.Name) {
			return fmt.Errorf("%q is no name of a node file", f.Name)
		}
		if f.Mode > 0o777 {
			return fmt.Errorf("node file %s has the mode %o, which is more than permissions", f.Name, f.Mode)
		}
		if err := f.Digest.Validate(); err != nil {
			return fmt.Errorf("node file %s has the digest %q: %w", f.Name, f.Digest, err)
		}
	}
	return nil
}

// words gives every text that is a name or a version, and that people see.
func (m *Manifest) words() []string {
	all := append([]string{m.KubernetesVersion}, m.Architectures...)
	for name, version := range m.Components {
		all = append(all, name, version)
	}
	for _, i := range m.Images {
		all = append(all, i.Role, i.NodeRole, i.Architecture)
	}
	for _, f := range m.Files {
		all = append(all, f.Component, f.NodeRole, f.Architecture)
	}
	return all
}

// validWord is a name or a version.
var validWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}$`)

// maxImageName bounds the name of an image, in bytes.
const maxImageName = 255

// validImage is a registry with or without port, a path and a tag.
var validImage = regexp.MustCompile(`^[a-z0-9]+([.-][a-z0-9]+)*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// splitTag parts an image name at its tag. A name without a tag has the tag latest.
func splitTag(name string) (repository, tag string) {
	slash := strings.LastIndex(name, "/")
	if colon := strings.LastIndex(name, ":"); colon > slash {
		return name[:colon], name[colon+1:]
	}
	return name, "latest"
}
