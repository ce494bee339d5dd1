// Package bundlefile owns the step that puts node programs of a bundle on a host.
// It must never install what the plan does not name by digest.
package bundlefile

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// File is one program of a bundle and where it goes.
type File struct {
	// Path is absolute.
	Path string `json:"path"`
	// Digest is "sha256:..." of the content.
	Digest string `json:"digest"`
	// Mode holds permission bits, 0755 for a program.
	Mode int64 `json:"mode"`
	// Architecture is the one it is for; other hosts leave it out.
	Architecture string `json:"architecture"`
}

// Install puts programs on a host. The content goes over SSH, since a bare host need not have an HTTP client.
type Install struct {
	Files []File `json:"files"`
	// Output is what the programs amount to.
	Output step.Output `json:"output"`
}

// ID is stored in plans.
func (Install) ID() step.ID { return "bundlefile.install/v1" }

// Gives tells what later steps find.
func (i Install) Gives() []step.Output { return []step.Output{i.Output} }

// Check compares the digest of every file.
func (i Install) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	missing, err := i.missing(ctx, r, r.Target)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	for _, f := range missing {
		drift.Want(f.Path, "other or no content", f.Digest)
	}
	return drift, nil
}

func (i Install) missing(ctx context.Context, r host.Reader, t step.Target) ([]File, error) {
	wanted := slices.DeleteFunc(slices.Clone(i.Files), func(f File) bool { return f.Architecture != t.Architecture })
	paths := make([]string, len(wanted))
	for n, f := range wanted {
		paths[n] = f.Path
	}
	digests, err := host.QueryDigests(ctx, r, paths...)
	if err != nil {
		return nil, fmt.Errorf("cannot read the digests of installed programs: %w", err)
	}
	var missing []File
	for _, f := range wanted {
		if "sha256:"+digests[f.Path] != f.Digest {
			missing = append(missing, f)
		}
	}
	return missing, nil
}

// Unfinished ends the name of a program that is not in place yet. A running program is replaced by the rename, never written over.
const Unfinished = ".slipway-new"

// Apply streams what is missing as one archive and then renames each file into place.
func (i Install) Apply(ctx context.Context, w step.Writer) error {
	files, err := i.missing(ctx, w, w.Target)
	if err != nil {
		return err
	}
	argv := []string{"tar", "--extract", "--file=-", "--directory=/", "--no-same-owner", "--preserve-permissions"}
	if err := w.RunFed(ctx, argv, func(out io.Writer) error { return archive(ctx, w.Blobs, files, out) }); err != nil {
		return fmt.Errorf("cannot unpack programs: %w", err)
	}
	for _, f := range files {
		if _, err := w.Run(ctx, host.Command{Argv: []string{"mv", "--force", "--no-target-directory", f.Path + Unfinished, f.Path}}); err != nil {
			return fmt.Errorf("cannot put %s in place: %w", f.Path, err)
		}
	}
	return nil
}

func archive(ctx context.Context, blobs step.Blobs, files []File, out io.Writer) error {
	t := tar.NewWriter(out)
	seen := map[string]bool{}
	for _, f := range files {
		if dir := path.Dir(f.Path); !seen[dir] {
			seen[dir] = true
			if err := directory(t, dir); err != nil {
				return err
			}
		}
		if err := entry(ctx, blobs, f, t); err != nil {
			return err
		}
	}
	return t.Close()
}

// directory adds dir only when it is one of ours: the modes of the system's own directories stay.
func directory(t *tar.Writer, dir string) error {
	if !strings.HasPrefix(dir, "/opt/cni") {
		return nil
	}
	return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: 0o755})
}

func entry(ctx context.Context, blobs step.Blobs, f File, t *tar.Writer) error {
	content, size, err := blobs.Blob(ctx, f.Digest)
	if err != nil {
		return fmt.Errorf("cannot read %s from the bundle: %w", path.Base(f.Path), err)
	}
	defer content.Close()
	h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.Path, "/") + Unfinished, Mode: f.Mode, Size: size}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(t, content)
	return err
}
