package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	// DefaultDays is how long lines are kept when nobody says otherwise.
	DefaultDays = 180
	// retainEvery is how often the age of segments is looked at.
	retainEvery = time.Hour
)

// The reasons of a removal.
const (
	removedByAge  = "age"
	removedBySize = "size"
)

// Retain removes segments whose last line is older than the days that days gives, now and every hour until ctx ends;
// then it gives nil. While days gives an error nothing is removed.
func (l *Log) Retain(ctx context.Context, days func(context.Context) (int, error)) error {
	ticker := time.NewTicker(retainEvery)
	defer ticker.Stop()
	for {
		n, err := days(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			l.Logger.WarnContext(ctx, "cannot find out how long the audit log is kept", "err", err)
		default:
			l.removeOlder(time.Now().AddDate(0, 0, -n))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// removeOlder removes the segments that ended before limit. All lines of a segment are older than the next one.
func (l *Log) removeOlder(limit time.Time) {
	l.remove(func(next segment, _ int64) string {
		if next.start.Before(limit) {
			return removedByAge
		}
		return ""
	})
}

// shrink removes the oldest segments until the log is within its bound.
func (l *Log) shrink() {
	l.remove(func(_ segment, total int64) string {
		if total > l.MaxBytes {
			return removedBySize
		}
		return ""
	})
}

// remove removes the oldest segment for as long as why gives a reason, which is asked with the segment after it and
// the size of all. The last segment always stays.
func (l *Log) remove(why func(next segment, total int64) string) {
	if !l.reading.TryLock() {
		return // Somebody reads; the next call will do.
	}
	defer l.reading.Unlock()
	for {
		l.mu.Lock()
		if l.closed || len(l.segments) < 2 {
			l.mu.Unlock()
			return
		}
		var total int64
		for _, s := range l.segments {
			total += s.size
		}
		oldest, reason := l.segments[0], why(l.segments[1], total)
		l.mu.Unlock()
		if reason == "" {
			return
		}
		if err := l.removeOldest(oldest, reason); err != nil {
			l.Logger.Error("cannot remove an old segment of the audit log", "segment", oldest.name(), "err", err)
			return
		}
	}
}

// removeOldest first writes the line that from now on anchors the beginning of the chain, and then removes the segment:
// a crash in between leaves a chain that begins earlier than it needs to.
func (l *Log) removeOldest(oldest segment, reason string) error {
	content, err := oldest.read(l.Dir)
	if err != nil {
		return err
	}
	e := own(verbRemove, Allowed)
	lines, last := 0, cut{}
	for line := range backwards(content) {
		if c, ok := parse(line); ok && c.whole() {
			if lines == 0 {
				last = c
			}
			lines++
		}
	}
	e.Reason = reason
	e.Detail = map[string]string{"segment": oldest.name(), "lines": strconv.Itoa(lines), "to": strconv.FormatUint(last.seq, 10), "hash": hex.EncodeToString(last.hash[:])}
	if err := l.anchor(e); err != nil {
		return err
	}
	if err := errors.Join(os.Remove(filepath.Join(l.Dir, oldest.name())), syncDir(l.Dir)); err != nil {
		return err
	}
	l.Logger.Info("removed an old segment of the audit log", "segment", oldest.name(), "lines", lines, "reason", reason)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segments = l.segments[1:]
	return nil
}

// anchor writes a line and waits until it is on the disk.
func (l *Log) anchor(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.catchUp(); err != nil {
		return err
	}
	if err := l.append(e, ""); err != nil {
		return err
	}
	// A rare event, so the others may wait for it.
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("cannot bring the anchor to the disk: %w", err)
	}
	return nil
}
