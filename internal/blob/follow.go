package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// Follow waits on file system events, not on time. What is removed or replaced is followed from its new beginning.
func (d *Directory) Follow(ctx context.Context, name string, offset int64, each func([]byte) error) error {
	if err := ready(ctx, name); err != nil {
		return err
	}
	if err := d.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return fmt.Errorf("cannot follow blob %s: %w", name, err)
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("cannot follow blob %s: %w", name, err)
	}
	t := tail{root: d.root, name: name, offset: offset, each: each}
	err = t.follow(ctx, watcher, filepath.Join(d.root.Name(), filepath.FromSlash(path.Dir(name))))
	return errors.Join(err, watcher.Close())
}

type tail struct {
	root   *os.Root
	name   string
	offset int64
	each   func([]byte) error
}

func (t *tail) follow(ctx context.Context, watcher *fsnotify.Watcher, folder string) error {
	// The watch begins before the first read, so nothing written in between is missed.
	if err := watcher.Add(folder); err != nil {
		return fmt.Errorf("cannot follow blob %s: %w", t.name, err)
	}
	for {
		if err := t.read(ctx); err != nil {
			return err
		}
		if err := t.wait(ctx, watcher); err != nil {
			return err
		}
	}
}

// wait gives nil after the next event that concerns the file.
func (t *tail) wait(ctx context.Context, watcher *fsnotify.Watcher) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-watcher.Errors:
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				return nil
			}
			return fmt.Errorf("cannot follow blob %s: %w", t.name, err)
		case event := <-watcher.Events:
			if filepath.Base(event.Name) != path.Base(t.name) {
				continue
			}
			if event.Has(fsnotify.Create) {
				t.offset = 0
			}
			return nil
		}
	}
}

// read hands on everything from the offset to the present end.
func (t *tail) read(ctx context.Context) error {
	f, err := t.root.Open(t.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot follow blob %s: %w", t.name, err)
	}
	err = t.copy(ctx, f)
	return errors.Join(err, f.Close())
}

func (t *tail) copy(ctx context.Context, f *os.File) error {
	buffer := make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(buffer, t.offset)
		if n > 0 {
			t.offset += int64(n)
			if err := t.each(buffer[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot follow blob %s: %w", t.name, err)
		}
	}
}
