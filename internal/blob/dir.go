package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Directory is a Store in one directory of a local file system. Links inside it never lead outside.
type Directory struct {
	root *os.Root
}

var (
	_ Store    = (*Directory)(nil)
	_ Follower = (*Directory)(nil)
)

// Dir opens the store in the directory at path, and makes the directory (mode 0700) when it is missing.
func Dir(path string) (*Directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make blob directory %s: %w", path, err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open blob directory %s: %w", path, err)
	}
	return &Directory{root: root}, nil
}

// Close frees the directory; the store must not be used any more.
func (d *Directory) Close() error { return d.root.Close() }

// Put writes a hidden file, syncs it, and renames it to name.
func (d *Directory) Put(ctx context.Context, name string, content []byte) error {
	if err := ready(ctx, name); err != nil {
		return err
	}
	if err := d.put(name, content); err != nil {
		return fmt.Errorf("cannot store blob %s: %w", name, err)
	}
	return nil
}

func (d *Directory) put(name string, content []byte) (err error) {
	if err := d.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	temporary := path.Join(path.Dir(name), ".new-"+rand.Text())
	f, err := d.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(d.root.Remove(temporary)))
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.root.Rename(temporary, name); err != nil {
		return err
	}
	return d.syncDirectory(path.Dir(name))
}

func (d *Directory) syncDirectory(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Open opens the file of that name.
func (d *Directory) Open(ctx context.Context, name string) (io.ReadSeekCloser, error) {
	if err := ready(ctx, name); err != nil {
		return nil, err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot open blob %s: %w", name, err)
	}
	return f, nil
}

// Append adds content with one write call.
func (d *Directory) Append(ctx context.Context, name string, content []byte) error {
	if err := ready(ctx, name); err != nil {
		return err
	}
	f, err := d.openAppend(name)
	if err != nil {
		return fmt.Errorf("cannot append to blob %s: %w", name, err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot append to blob %s: %w", name, err)
	}
	return nil
}

func (d *Directory) openAppend(name string) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	f, err := d.root.OpenFile(name, flags, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := d.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return nil, err
	}
	return d.root.OpenFile(name, flags, 0o600)
}

// List walks the directory; files in the making are not listed.
func (d *Directory) List(ctx context.Context, prefix string) ([]Info, error) {
	start := "."
	if prefix != "" {
		if err := CheckName(prefix); err != nil {
			return nil, err
		}
		start = prefix
	}
	var found []Info
	err := fs.WalkDir(d.root.FS(), start, func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed while we walk
		}
		if err != nil || entry.IsDir() {
			return errors.Join(err, ctx.Err())
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) || !entry.Type().IsRegular() || strings.HasPrefix(entry.Name(), ".") {
			return nil
		}
		if err != nil {
			return err
		}
		found = append(found, Info{Name: name, Size: info.Size(), Modified: info.ModTime()})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list blobs under %q: %w", prefix, err)
	}
	return found, nil
}

// Remove deletes the file or folder of that name.
func (d *Directory) Remove(ctx context.Context, prefix string) error {
	if err := ready(ctx, prefix); err != nil {
		return err
	}
	if err := d.root.RemoveAll(prefix); err != nil {
		return fmt.Errorf("cannot remove blobs under %s: %w", prefix, err)
	}
	return nil
}

func ready(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return CheckName(name)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
