package build

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

const (
	layerFile  = "layer.tar.zst"
	noteDiffID = "diffID"
)

// fileTree is the content of a layer, by path without a leading slash.
type fileTree struct {
	entries map[string]treeEntry
}

// treeEntry is one file, directory or link. Owner and time are the same for all, so they are not kept.
type treeEntry struct {
	kind   byte // as in tar headers
	mode   int64
	target string
	size   int64
	// content or, for big files, the path and digest of a file outside.
	content []byte
	source  *program
}

func newFileTree() *fileTree { return &fileTree{entries: map[string]treeEntry{}} }

func (t *fileTree) file(name string, content []byte, mode int64) {
	t.put(name, treeEntry{kind: tar.TypeReg, mode: mode, size: int64(len(content)), content: content})
}

func (t *fileTree) program(name string, p program) {
	t.put(name, treeEntry{kind: tar.TypeReg, mode: 0o755, size: p.size, source: &p})
}

func (t *fileTree) link(name, target string) {
	t.put(name, treeEntry{kind: tar.TypeSymlink, mode: 0o777, target: target})
}

func (t *fileTree) directory(name string, mode int64) {
	t.put(name, treeEntry{kind: tar.TypeDir, mode: mode})
}

// put adds an entry and the directories above it.
func (t *fileTree) put(name string, entry treeEntry) {
	name = strings.Trim(path.Clean("/"+name), "/")
	if name == "" {
		return
	}
	t.entries[name] = entry
	for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
		if _, ok := t.entries[parent]; !ok {
			t.entries[parent] = treeEntry{kind: tar.TypeDir, mode: 0o755}
		}
	}
}

// skeleton adds what every root file system should have.
func (t *fileTree) skeleton() {
	t.file("etc/passwd", []byte("root:x:0:0:root:/root:/sbin/nologin\n"+
		"pause:x:65535:65535:pause:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"), 0o644)
	t.file("etc/group", []byte("root:x:0:\npause:x:65535:\nnogroup:x:65534:\n"), 0o644)
	t.file("etc/nsswitch.conf", []byte("hosts: files dns\n"), 0o644)
	t.directory("tmp", 0o1777)
}

// addTar adds the entries of a package's file archive, with everything below / that Debian has merged into /usr.
func (t *fileTree) addTar(r io.Reader, exclude []string) error {
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			// The sender may still be writing padding.
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		original := strings.Trim(path.Clean("/"+header.Name), "/")
		name := t.merged(original)
		if name == "" || excluded(name, exclude) {
			continue
		}
		entry := treeEntry{kind: header.Typeflag, mode: header.Mode & 0o7777, size: header.Size}
		switch header.Typeflag {
		case tar.TypeDir:
			if _, ok := t.entries[name]; ok {
				continue
			}
		case tar.TypeReg:
			if entry.content, err = io.ReadAll(archive); err != nil {
				return err
			}
		case tar.TypeSymlink:
			entry.target = header.Linkname
			if name != original && !path.IsAbs(entry.target) {
				// The link moved into /usr, so where it points from changed.
				entry.target = path.Join("/", path.Dir(original), entry.target)
			}
		case tar.TypeLink:
			// A second name for a file packed before; as a copy it depends on no order.
			first, ok := t.entries[t.merged(strings.Trim(path.Clean("/"+header.Linkname), "/"))]
			if !ok {
				return fmt.Errorf("cannot pack %s: its hard link %s is not there", header.Name, header.Linkname)
			}
			entry = first
		default:
			return fmt.Errorf("cannot pack %s: type %q is not supported", header.Name, header.Typeflag)
		}
		t.put(name, entry)
	}
}

// merged gives the path in /usr for what Debian has merged into it, and makes the link from the old place.
func (t *fileTree) merged(name string) string {
	top, rest, below := strings.Cut(name, "/")
	switch top {
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32":
	default:
		return name
	}
	t.link(top, "usr/"+top)
	t.directory("usr/"+top, 0o755)
	if !below {
		return ""
	}
	return "usr/" + top + "/" + rest
}

func excluded(name string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(name+"/", prefix) {
			return true
		}
	}
	return false
}

// writeLayer packs a tree as tar and zstd. Equal trees give equal bytes: sorted entries, one time and owner for all,
// and a single compression thread.
func writeLayer(ctx context.Context, out string, tree *fileTree, epoch time.Time) (err error) {
	file, err := os.OpenFile(filepath.Join(out, layerFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write layer: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	compressed, err := zstd.NewWriter(file, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return fmt.Errorf("cannot write layer: %w", err)
	}
	diffID := digest.SHA256.Digester()
	archive := tar.NewWriter(io.MultiWriter(compressed, diffID.Hash()))
	for _, name := range sortedNames(tree.entries) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeTreeEntry(archive, name, tree.entries[name], epoch); err != nil {
			return fmt.Errorf("cannot write layer: cannot add %s: %w", name, err)
		}
	}
	if err := errors.Join(archive.Close(), compressed.Close()); err != nil {
		return fmt.Errorf("cannot write layer: %w", err)
	}
	return writeNotes(out, map[string]string{noteDiffID: diffID.Digest().String()})
}

func writeTreeEntry(archive *tar.Writer, name string, entry treeEntry, epoch time.Time) error {
	header := &tar.Header{
		Typeflag: entry.kind, Name: name, Mode: entry.mode, ModTime: epoch.UTC().Truncate(time.Second), Format: tar.FormatPAX,
	}
	switch entry.kind {
	case tar.TypeDir:
		header.Name += "/"
	case tar.TypeReg:
		header.Size = entry.size
	default:
		header.Linkname = entry.target
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if entry.source == nil {
		_, err := io.Copy(archive, bytes.NewReader(entry.content))
		return err
	}
	return copyChecked(archive, *entry.source)
}

// copyChecked copies a program and makes sure that it is still the one that was built.
func copyChecked(w io.Writer, p program) error {
	file, err := os.Open(p.path)
	if err != nil {
		return err
	}
	hash := digest.SHA256.Digester()
	_, err = io.Copy(io.MultiWriter(w, hash.Hash()), file)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if hash.Digest() != p.digest {
		return fmt.Errorf("%s is damaged; remove its directory and build again", p.path)
	}
	return nil
}
