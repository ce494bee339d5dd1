package bundle

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// Watch tells when the list of bundles changes, whichever process changes it. The channel holds at most one pending
// signal, starts with one (so a caller lists once and then on each signal), and closes when ctx ends or when the
// directory can no longer be watched.
func (s *Store) Watch(ctx context.Context) (<-chan struct{}, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("cannot watch bundle store %s: %w", s.dir, err)
	}
	// The directory is watched, not the file: index.json is replaced by rename.
	if err := watcher.Add(s.dir); err != nil {
		return nil, fmt.Errorf("cannot watch bundle store %s: %w (closing: %v)", s.dir, err, watcher.Close())
	}
	changes := make(chan struct{}, 1)
	changes <- struct{}{}
	go s.watch(ctx, watcher, changes)
	return changes, nil
}

func (s *Store) watch(ctx context.Context, watcher *fsnotify.Watcher, changes chan<- struct{}) {
	defer close(changes)
	// The watcher is of no use any more and nothing depends on how its descriptor closes.
	defer func() { _ = watcher.Close() }()
	for {
		select {
		case <-ctx.Done():
			return
		case event, ok := <-watcher.Events:
			if !ok {
				return
			}
			if filepath.Base(event.Name) != indexFile {
				continue
			}
		case _, ok := <-watcher.Errors:
			// An overflow loses events, so it counts as a change.
			if !ok {
				return
			}
		}
		select {
		case changes <- struct{}{}:
		default:
		}
	}
}
