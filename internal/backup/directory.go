package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"slipway.dev/slipway/internal/fault"
)

const (
	// unfinished begins the names of files in the making, which no backup can have.
	unfinished = ".new-"
	// abandoned is how long nothing was written to an unfinished file before it is taken for what a crash left.
	abandoned = 24 * time.Hour
)

// Directory is a Store in one directory of the server's machine: a file of mode 600 for each backup.
type Directory struct{ path string }

// NewDirectory gives the store in the directory at path. It touches nothing yet; Put and Test make the directory (mode
// 700) when it is missing.
func NewDirectory(path string) *Directory { return &Directory{path: path} }

// open opens the directory anew each time: a share that was mounted since is seen, and a lost one fails.
func (d *Directory) open(ctx context.Context, name string) (*os.Root, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := CheckName(name); err != nil {
		return nil, err
	}
	return os.OpenRoot(d.path)
}

// Put writes a hidden file, syncs it, renames it to name and reads it back.
func (d *Directory) Put(ctx context.Context, name string, content io.Reader) (Object, error) {
	if err := CheckName(name); err != nil {
		return Object{}, err
	}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return Object{}, d.explain("keep", name, err)
	}
	root, err := d.open(ctx, name)
	if err != nil {
		return Object{}, d.explain("keep", name, err)
	}
	o, err := d.put(ctx, root, name, content)
	if err := errors.Join(err, root.Close()); err != nil {
		return Object{}, d.explain("keep", name, err)
	}
	return o, nil
}

func (d *Directory) put(ctx context.Context, root *os.Root, name string, content io.Reader) (_ Object, err error) {
	if err := removeAbandoned(root); err != nil {
		return Object{}, err
	}
	if _, err := root.Lstat(name); err == nil {
		return Object{}, fs.ErrExist
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Object{}, err
	}
	written := unfinished + rand.Text()
	f, err := root.OpenFile(written, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Object{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(root.Remove(written)))
		}
	}()
	m := Measure(ctx, content)
	_, err = io.Copy(f, m)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return Object{}, err
	}
	if err = root.Rename(written, name); err != nil {
		return Object{}, err
	}
	if err = syncDirectory(root); err == nil {
		err = readBack(ctx, d, m.Object(name))
	}
	if err != nil {
		return Object{}, errors.Join(err, ignoreMissing(root.Remove(name)))
	}
	return m.Object(name), nil
}

// syncDirectory makes a rename or a removal outlive a power cut.
func syncDirectory(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func removeAbandoned(root *os.Root) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), unfinished) {
			continue
		}
		info, err := e.Info()
		if err == nil && time.Since(info.ModTime()) > abandoned {
			err = root.Remove(e.Name())
		}
		if err := ignoreMissing(err); err != nil {
			return err
		}
	}
	return nil
}

// Get opens the file of that name.
func (d *Directory) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	root, err := d.open(ctx, name)
	if err != nil {
		return nil, d.explain("read", name, err)
	}
	f, err := root.Open(name)
	if err := errors.Join(err, root.Close()); err != nil {
		return nil, d.explain("read", name, err)
	}
	return f, nil
}

// List describes the files; a directory that is missing has none.
func (d *Directory) List(ctx context.Context, prefix string) ([]Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.path)
	if err := ignoreMissing(err); err != nil {
		return nil, d.explain("list", prefix, err)
	}
	var found []Object
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || CheckName(e.Name()) != nil || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed while we look
		}
		if err != nil {
			return nil, d.explain("list", prefix, err)
		}
		found = append(found, Object{Name: e.Name(), Size: info.Size(), Modified: info.ModTime()})
	}
	return found, nil
}

// Remove deletes the file of that name.
func (d *Directory) Remove(ctx context.Context, name string) error {
	root, err := d.open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return d.explain("remove", name, err)
	}
	err = root.Remove(name)
	if err == nil {
		err = syncDirectory(root)
	}
	if err := errors.Join(ignoreMissing(err), root.Close()); err != nil {
		return d.explain("remove", name, err)
	}
	return nil
}

// Test makes the directory when it is missing, and probes it.
func (d *Directory) Test(ctx context.Context) error {
	if err := Probe(ctx, d); err != nil {
		return fmt.Errorf("cannot use directory %s for backups: %w", d.path, err)
	}
	return nil
}

// explain adds what was to be done, and a fix for what people can mend.
func (d *Directory) explain(verb, name string, err error) error {
	err = fmt.Errorf("cannot %s backup %s in directory %s: %w", verb, name, d.path, err)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fault.NewTerminal("NotAllowed", "let the user that the server runs as write to "+d.path+"; an NFS share needs no_root_squash, or another owner", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.NewTerminal("Full", "free space at "+d.path+", or keep fewer backups", err)
	case errors.Is(err, syscall.EROFS):
		return fault.NewTerminal("ReadOnly", "mount "+d.path+" so that it can be written to", err)
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
