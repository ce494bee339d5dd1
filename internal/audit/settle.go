package audit

import (
	"errors"
	"os"
	"time"
)

// plan has settle called in a second, once.
func (l *Log) plan() {
	if l.planned != nil || l.closed {
		return
	}
	l.settling.Add(1)
	l.planned = time.AfterFunc(settleAfter, func() {
		defer l.settling.Done()
		l.settle()
	})
}

// settle brings what was written to the disk, and does what waits for a moment of peace.
func (l *Log) settle() {
	l.mu.Lock()
	for _, e := range l.limit.due(time.Now()) {
		l.put(e)
	}
	if l.missing.count > 0 {
		// Without a line that comes, a server that is not ready would stay so: nobody sends it requests.
		if err := l.catchUp(); err != nil {
			l.missing.err = err
		}
	}
	file, full := l.file, l.full
	l.full = nil
	l.mu.Unlock()

	// Without the lock: a slow disk holds up nobody.
	err := syncAll(l.Dir, file, full)

	l.mu.Lock()
	if err != nil && l.syncErr == nil {
		l.Logger.Error("cannot bring the audit log to the disk; the server is not ready until it can", "err", err)
	}
	l.syncErr = err
	l.planned = nil
	if err != nil || l.missing.count > 0 || l.limit.waiting() {
		l.plan()
	}
	l.mu.Unlock()
	if len(full) > 0 {
		l.shrink()
	}
}

// syncAll also closes the segments that are full.
func syncAll(dir string, file *os.File, full []*os.File) error {
	err := file.Sync()
	for _, f := range full {
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if len(full) > 0 {
		err = errors.Join(err, syncDir(dir))
	}
	return err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
