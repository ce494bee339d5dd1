package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// segment is one file of the log.
type segment struct {
	// first is the number of its first line.
	first uint64
	// start is when it was begun.
	start time.Time
	size  int64
}

const (
	segmentTime = "20060102T150405Z"
	segmentEnd  = ".jsonl"
)

func (s segment) name() string {
	return fmt.Sprintf("%012d-%s%s", s.first, s.start.UTC().Format(segmentTime), segmentEnd)
}

// segments lists the segments in a directory, oldest first.
func segments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []segment
	for _, entry := range entries {
		number, at, ok := strings.Cut(strings.TrimSuffix(entry.Name(), segmentEnd), "-")
		first, err := strconv.ParseUint(number, 10, 64)
		start, timeErr := time.Parse(segmentTime, at)
		s := segment{first: first, start: start}
		if !ok || err != nil || timeErr != nil || s.name() != entry.Name() {
			continue // Such as the audit.log of an earlier version.
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // Retention was quicker.
		}
		if err != nil {
			return nil, err
		}
		s.size = info.Size()
		found = append(found, s)
	}
	slices.SortFunc(found, func(a, b segment) int { return strings.Compare(a.name(), b.name()) })
	return found, nil
}

// read gives the content of a segment, as far as the log has written it.
func (s segment) read(dir string) ([]byte, error) {
	file, err := os.Open(filepath.Join(dir, s.name()))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content := make([]byte, s.size)
	n, err := io.ReadFull(file, content)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return content[:n], err
}

// rotate begins a new segment when the last one is full or of an earlier day. One that cannot be made is tried
// again with the next line, and the old one grows on.
func (l *Log) rotate(now time.Time) {
	current := l.current()
	nextDay := now.UTC().Truncate(24 * time.Hour).After(current.start)
	if current.size == 0 || (current.size < l.segmentBytes && !nextDay) {
		return
	}
	next := segment{first: l.seq + 1, start: now.UTC().Truncate(time.Second)}
	file, err := l.create(&next)
	if err != nil && l.rotateErr == nil {
		l.Logger.Error("cannot begin another segment of the audit log", "err", err)
	}
	if l.rotateErr = err; err != nil {
		return
	}
	l.full = append(l.full, l.file)
	l.file = file
	l.segments = append(l.segments, next)
	l.Logger.Info("the audit log begins another segment", "segment", next.name(), "head", l.head().String())
}

// create opens a segment for appending, and makes it when there is none.
func (l *Log) create(s *segment) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(l.Dir, s.name()), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	s.size = info.Size()
	return file, nil
}

// ending is what must be written before the next line.
type ending struct {
	// lead ends an unfinished line.
	lead string
	// repair is the line that tells of what is no line; nil when there is none.
	repair *Event
}

// resume finds the end of the chain and opens the last segment.
func (l *Log) resume() (ending, error) {
	var end ending
	found, err := segments(l.Dir)
	if err != nil {
		return end, err
	}
	if len(found) == 0 {
		l.segments = []segment{{first: 1, start: time.Now().UTC().Truncate(time.Second)}}
	} else {
		l.segments = found
		if end, err = l.findEnd(); err != nil {
			return end, err
		}
	}
	if l.file, err = l.create(l.current()); err != nil {
		return end, err
	}
	return end, syncDir(l.Dir)
}

// findEnd finds the last whole line, and what lies behind it in the last segment. It looks from the end, so that a
// line that was changed long ago does not stop the server: the chain goes on, and verifying finds that line.
func (l *Log) findEnd() (ending, error) {
	var end ending
	for i := len(l.segments) - 1; i >= 0; i-- {
		content, err := l.segments[i].read(l.Dir)
		if err != nil {
			return end, err
		}
		rest, found := len(content), false
		for line := range backwards(content) {
			if c, ok := parse(line); ok && c.whole() {
				l.seq, l.prev, found = c.seq, c.hash, true
				break
			}
			rest -= len(line)
		}
		if i == len(l.segments)-1 {
			if len(content) > 0 && content[len(content)-1] != '\n' {
				end.lead = "\n"
			}
			if behind := content[rest:]; len(behind) > 0 {
				end.repair = repair(behind)
			}
		}
		if found {
			return end, nil
		}
	}
	// Nothing is left of the chain; the numbers go on where the oldest segment says.
	l.seq = max(l.segments[0].first, 1) - 1
	return end, nil
}

// The reasons of a repair.
const (
	// reasonTorn is what the end of a machine or process in the middle of a write leaves.
	reasonTorn = "Torn"
	// reasonAltered is a line that was once whole.
	reasonAltered = "Altered"
)

// repair tells of bytes that are no whole line.
func repair(behind []byte) *Event {
	e := own(verbRepair, Failed)
	e.Reason = reasonTorn
	for line := range bytes.Lines(behind) {
		if _, ok := parse(line); ok {
			e.Reason = reasonAltered
		}
	}
	digest := sha256.Sum256(behind)
	e.Detail = map[string]string{"bytes": strconv.Itoa(len(behind)), "sha256": hex.EncodeToString(digest[:]), "text": string(behind)}
	return &e
}

// backwards gives the lines of content from the last to the first, each with its line end.
func backwards(content []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(content) > 0 {
			begin := bytes.LastIndexByte(content[:len(content)-1], '\n') + 1
			if !yield(content[begin:]) {
				return
			}
			content = content[:begin]
		}
	}
}
