package bundle

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Progress follows long work: done of total bytes, and what is being worked on. It is called from one goroutine.
type Progress func(done, total int64, subject string)

// Problem is one thing wrong with a bundle.
type Problem struct {
	// Subject names the image, node file or document, such as "image registry.k8s.io/pause:3.10.2, layer 1".
	Subject string
	// Digest is the blob concerned; empty when no single blob is.
	Digest digest.Digest
	// Detail says what is wrong.
	Detail string
}

// VerifyError lists everything found wrong with a bundle, and the fix.
type VerifyError struct {
	// Bundle is the name of the bundle.
	Bundle string
	// Problems has one entry or more.
	Problems []Problem
}

// Error names every problem with its blob, and ends with what a person can do.
func (e *VerifyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cannot use bundle %s: ", e.Bundle)
	for n, p := range e.Problems {
		if n > 0 {
			b.WriteString("; ")
		}
		b.WriteString(p.Subject)
		if p.Digest != "" {
			fmt.Fprintf(&b, " (blob %s)", p.Digest)
		}
		b.WriteString(": " + p.Detail)
	}
	b.WriteString("; build or import the bundle again to repair it")
	return b.String()
}

// requiredFiles are the node files without which no node can be set up.
func requiredFiles() []string {
	return []string{
		"kubeadm", "kubelet", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr", "runc", "crictl",
		"loopback", "bridge", "host-local", "portmap",
	}
}

// requiredRoles are the image roles without which no cluster can be set up; flannel counts when the bundle names it
// as a component.
func requiredRoles(m *Manifest) []string {
	roles := []string{
		RoleKubeAPIServer, RoleKubeControllerManager, RoleKubeScheduler, RoleKubeProxy, RoleEtcd, RoleCoreDNS, RolePause,
	}
	if m.Components[RoleFlannel] != "" {
		roles = append(roles, RoleFlannel)
	}
	return roles
}

// Verify reads every byte of a bundle and checks digests and sizes, that nothing required is missing, and that each
// file and image is for the architecture it claims. A bundle that fails gives a *VerifyError with all that was found.
// The progress may be nil.
func (s *Store) Verify(ctx context.Context, name string, progress Progress) error {
	root, err := s.resolve(ctx, name)
	if err != nil {
		return fmt.Errorf("cannot verify bundle %s: %w", name, err)
	}
	return s.verify(ctx, name, root, progress)
}

func (s *Store) verify(ctx context.Context, name string, root ocispec.Descriptor, progress Progress) error {
	t, err := s.readTree(ctx, root)
	if ctx.Err() != nil {
		return fmt.Errorf("cannot verify bundle %s: %w", name, ctx.Err())
	}
	if err != nil {
		return &VerifyError{Bundle: name, Problems: []Problem{{Subject: "bundle", Detail: err.Error()}}}
	}
	problems, err := s.verifyBlobs(ctx, t, progress)
	if err != nil {
		return fmt.Errorf("cannot verify bundle %s: %w", name, err)
	}
	problems = append(problems, t.verifyContents()...)
	for _, image := range t.images {
		problems = append(problems, s.verifyPlatform(ctx, image)...)
	}
	for _, file := range t.manifest.Files {
		problems = append(problems, s.verifyELF(ctx, file)...)
	}
	if len(problems) > 0 {
		return &VerifyError{Bundle: name, Problems: problems}
	}
	return nil
}

func (s *Store) verifyBlobs(ctx context.Context, t *tree, progress Progress) ([]Problem, error) {
	refs := t.blobs()
	var total, done int64
	for _, ref := range refs {
		total += ref.size
	}
	var problems []Problem
	for _, ref := range refs {
		if progress != nil {
			progress(done, total, ref.subject)
		}
		err := s.checkBlob(ctx, ref.digest, ref.size)
		var damaged *blobError
		switch {
		case errors.As(err, &damaged):
			problems = append(problems, Problem{ref.subject, ref.digest, damaged.detail})
		case err != nil:
			return nil, fmt.Errorf("cannot read %s, blob %s: %w", ref.subject, ref.digest, err)
		}
		done += ref.size
	}
	if progress != nil {
		progress(done, total, "")
	}
	return problems, nil
}

// blobError says that a blob is missing or damaged, as opposed to unreadable.
type blobError struct{ detail string }

func (e *blobError) Error() string { return e.detail }

func (s *Store) checkBlob(ctx context.Context, d digest.Digest, size int64) error {
	file, info, err := s.openBlob(ctx, d)
	if errors.Is(err, ErrNotFound) {
		return &blobError{"it is missing"}
	}
	if err != nil {
		return err
	}
	if info.Size() != size {
		detail := fmt.Sprintf("it has %d bytes instead of %d", info.Size(), size)
		return errors.Join(&blobError{detail}, file.Close())
	}
	hash := digest.SHA256.Digester()
	_, err = io.Copy(hash.Hash(), &contextReader{ctx, file})
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if found := hash.Digest(); found != d {
		return &blobError{fmt.Sprintf("its content is corrupt and has the digest %s", found)}
	}
	return nil
}

// verifyContents compares the bundle manifest with the OCI index, and both with what a cluster needs.
func (t *tree) verifyContents() []Problem {
	var problems []Problem
	report := func(subject, format string, args ...any) {
		problems = append(problems, Problem{Subject: subject, Detail: fmt.Sprintf(format, args...)})
	}
	images, files := t.indexed()
	for _, i := range t.manifest.Images {
		key := i.Name + " for " + i.Architecture
		if found := images[key]; found == "" {
			report("image "+key, "the bundle manifest lists it but the bundle does not hold it")
		} else if found != i.Digest {
			report("image "+key, "the bundle manifest names the digest %s but the bundle holds %s", i.Digest, found)
		}
		delete(images, key)
	}
	for _, f := range t.manifest.Files {
		key := f.Name + " for " + f.Architecture
		if found := files[key]; found == "" {
			report("node file "+key, "the bundle manifest lists it but the bundle does not hold it")
		} else if found != f.Digest {
			report("node file "+key, "the bundle manifest names the digest %s but the bundle holds %s", f.Digest, found)
		}
		delete(files, key)
	}
	for _, left := range []map[string]digest.Digest{images, files} {
		for _, key := range sortedKeys(left) {
			report(key, "the bundle holds it but the bundle manifest does not list it")
		}
	}
	if len(t.manifest.Architectures) == 0 {
		report("bundle manifest", "it lists no architecture")
	}
	for _, architecture := range t.manifest.Architectures {
		for _, role := range requiredRoles(t.manifest) {
			if _, ok := t.manifest.Image(role, architecture); !ok {
				report("image for "+role, "there is none for %s", architecture)
			}
		}
		for _, name := range requiredFiles() {
			if _, ok := t.manifest.File(name, architecture); !ok {
				report("node file "+name, "there is none for %s", architecture)
			}
		}
	}
	return problems
}

// indexed gives what the OCI documents hold, by "name for architecture".
func (t *tree) indexed() (images, files map[string]digest.Digest) {
	images, files = map[string]digest.Digest{}, map[string]digest.Digest{}
	for _, i := range t.images {
		images[i.descriptor.Annotations[AnnotationImage]+" for "+architectureOf(i.descriptor)] = i.descriptor.Digest
	}
	for _, f := range t.files {
		for _, layer := range f.manifest.Layers {
			files[layer.Annotations[AnnotationName]+" for "+architectureOf(f.descriptor)] = layer.Digest
		}
	}
	return images, files
}

func architectureOf(d ocispec.Descriptor) string {
	if d.Platform == nil {
		return "no architecture"
	}
	return d.Platform.Architecture
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// verifyPlatform compares the platform in the bundle's index with the one in the image config: containerd goes by
// the config, and silently skips an image whose config names another platform.
func (s *Store) verifyPlatform(ctx context.Context, image imageNode) []Problem {
	problem := func(format string, args ...any) []Problem {
		return []Problem{{subject(image.descriptor), image.manifest.Config.Digest, fmt.Sprintf(format, args...)}}
	}
	var config ocispec.Image
	if _, err := s.readDocument(ctx, image.manifest.Config.Digest, &config); err != nil {
		return problem("cannot read its config: %v", err)
	}
	want := image.descriptor.Platform
	if want == nil || want.OS == "" || want.Architecture == "" {
		return problem("the bundle's index names no platform for it")
	}
	if config.OS != want.OS || config.Architecture != want.Architecture {
		return problem("its config says %s/%s but it is listed for %s/%s",
			config.OS, config.Architecture, want.OS, want.Architecture)
	}
	return nil
}

// machines gives the ELF machine of each Go architecture that a node can have.
func machines() map[string]elf.Machine {
	return map[string]elf.Machine{
		"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "ppc64le": elf.EM_PPC64, "s390x": elf.EM_S390,
		"riscv64": elf.EM_RISCV, "loong64": elf.EM_LOONGARCH,
	}
}

// verifyELF checks that a node file is an executable for the architecture it is listed for. A blob that is missing
// or damaged was reported before.
func (s *Store) verifyELF(ctx context.Context, f File) []Problem {
	problem := func(format string, args ...any) []Problem {
		return []Problem{{"node file " + f.Name, f.Digest, fmt.Sprintf(format, args...)}}
	}
	want, ok := machines()[f.Architecture]
	if !ok {
		return problem("it is listed for the unknown architecture %s", f.Architecture)
	}
	file, _, err := s.openBlob(ctx, f.Digest)
	if err != nil {
		return nil
	}
	found, err := machineOf(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return problem("it is no executable for Linux: %v", err)
	}
	if found != want {
		return problem("it is an executable for %s but is listed for %s", found, f.Architecture)
	}
	return nil
}

func machineOf(file *os.File) (elf.Machine, error) {
	parsed, err := elf.NewFile(file)
	if err != nil {
		return 0, err
	}
	return parsed.Machine, parsed.Close()
}
