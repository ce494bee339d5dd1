package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/go-digest"
)

const (
	partFile   = "part.json"
	workPrefix = "work-"
)

// cache keeps finished parts by the digest of everything that decides their content.
type cache struct {
	dir  string
	lock *os.File
}

// part is one finished part: files in a directory of the cache.
type part struct {
	dir string
	// Files gives the files by name.
	Files map[string]fileInfo `json:"files"`
	// Notes keeps what the part's maker wants to know later, such as a layer's uncompressed digest.
	Notes map[string]string `json:"notes,omitempty"`
}

// fileInfo describes one file of a part.
type fileInfo struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// makeFunc makes a part: work may be left in dir, the part's files go to out.
type makeFunc func(ctx context.Context, dir, out string) error

func (p *part) path(file string) string { return filepath.Join(p.dir, file) }

// openCache opens the cache for one build, and removes what a killed build left half-made.
func openCache(dir string) (*cache, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make part cache: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock part cache: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("another build uses %s; wait for it to end", dir)
		}
		return nil, errors.Join(fmt.Errorf("cannot lock part cache: %w", err), lock.Close())
	}
	c := &cache{dir: dir, lock: lock}
	left, err := filepath.Glob(filepath.Join(dir, workPrefix+"*"))
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot clear part cache: %w", err), c.Close())
	}
	return c, nil
}

// Close gives the cache free for the next build.
func (c *cache) Close() error {
	if err := c.lock.Close(); err != nil {
		return fmt.Errorf("cannot unlock part cache: %w", err)
	}
	return nil
}

// find gives the part with a key, or nil and the directory name it will get.
func (c *cache) find(name string, key any) (found *part, id string, err error) {
	encoded, err := json.Marshal(key)
	if err != nil {
		return nil, "", fmt.Errorf("cannot encode part key: %w", err)
	}
	sum := sha256.Sum256(encoded)
	id = name + "-" + hex.EncodeToString(sum[:12])
	p, err := c.read(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, id, nil
	}
	return p, id, err
}

func (c *cache) read(id string) (*part, error) {
	p := &part{dir: filepath.Join(c.dir, id)}
	content, err := os.ReadFile(filepath.Join(p.dir, partFile))
	if err != nil {
		return nil, fmt.Errorf("cannot read part %s: %w", id, err)
	}
	if err := json.Unmarshal(content, p); err != nil {
		return nil, fmt.Errorf("cannot read part %s: %w; remove %s", id, err, p.dir)
	}
	for name, want := range p.Files {
		// Digests are checked when the file is packed; a wrong size says early that the part is no good.
		info, err := os.Stat(p.path(name))
		if err != nil || info.Size() != want.Size {
			return nil, fmt.Errorf("cannot use part %s: its file %s is missing or cut off; remove %s", id, name, p.dir)
		}
	}
	return p, nil
}

// produce builds a part aside and puts it into the cache whole.
func (c *cache) produce(ctx context.Context, id string, build makeFunc) (made *part, err error) {
	work, err := os.MkdirTemp(c.dir, workPrefix)
	if err != nil {
		return nil, fmt.Errorf("cannot make work directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	out, scratch := filepath.Join(work, "out"), filepath.Join(work, "scratch")
	if err := errors.Join(os.Mkdir(out, 0o755), os.Mkdir(scratch, 0o755)); err != nil {
		return nil, fmt.Errorf("cannot make work directory: %w", err)
	}
	if err := build(ctx, scratch, out); err != nil {
		return nil, err
	}
	if err := seal(out); err != nil {
		return nil, fmt.Errorf("cannot finish part %s: %w", id, err)
	}
	final := filepath.Join(c.dir, id)
	if err := errors.Join(os.RemoveAll(final), os.Rename(out, final)); err != nil {
		return nil, fmt.Errorf("cannot finish part %s: %w", id, err)
	}
	return c.read(id)
}

// seal hashes and syncs the files of a part and writes its description, keeping notes the maker wrote.
func seal(dir string) error {
	p := part{Files: map[string]fileInfo{}}
	notes, err := os.ReadFile(filepath.Join(dir, partFile))
	if err == nil {
		err = json.Unmarshal(notes, &p)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == partFile {
			continue
		}
		info, err := sealFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		p.Files[entry.Name()] = info
	}
	content, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, partFile), content)
}

// writeNotes leaves notes for seal to keep.
func writeNotes(dir string, notes map[string]string) error {
	content, err := json.Marshal(part{Files: map[string]fileInfo{}, Notes: notes})
	if err != nil {
		return fmt.Errorf("cannot encode notes: %w", err)
	}
	return writeFile(filepath.Join(dir, partFile), content)
}

func sealFile(path string) (fileInfo, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fileInfo{}, err
	}
	hash := digest.SHA256.Digester()
	size, err := io.Copy(hash.Hash(), file)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fileInfo{}, err
	}
	return fileInfo{Digest: hash.Digest(), Size: size}, nil
}

func writeFile(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Sync(), file.Close())
}
