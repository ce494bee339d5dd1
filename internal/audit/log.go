package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"
)

// Where a server keeps its log and the key of it, below its data directory.
const (
	DirName = "audit"
	KeyName = "keys/audit.key"
)

const (
	// segmentBytes is how large a segment gets before the next one begins.
	segmentBytes = 8 << 20
	// settleAfter is how long a line may be in the kernel's memory only.
	settleAfter = time.Second
	// defaultMaxBytes bounds the whole log.
	defaultMaxBytes = 2 << 30
	// keySize is the least size of a key.
	keySize = 32
)

// The verbs of the log's own lines. Their object is `audit` and their actor is Server.
const (
	verbStart    = "start"
	verbStop     = "stop"
	verbRepair   = "repair"
	verbLost     = "lost"
	verbRemove   = "remove"
	verbRepeated = "repeated"
	ownObject    = "audit"
)

var errClosed = errors.New("the audit log is closed")

// Options says where a log is and how large it may get.
type Options struct {
	// Dir holds the segments. It is made (mode 700) when missing; files of other names in it are left alone.
	Dir string
	// Key signs every line: 32 bytes at least, known to the server alone, and not kept in Dir.
	Key []byte
	// Version is that of the server; it is in the line of the start.
	Version string
	// MaxBytes bounds all segments together; 2 GiB when zero. The oldest segments go first.
	MaxBytes int64
	// Logger receives what goes wrong. Nil means silence.
	Logger *slog.Logger

	// segmentBytes is for tests.
	segmentBytes int64
}

// Log is the audit log of one server. All its methods may be called at the same time.
type Log struct {
	Options

	// reading is held while segments are read, so that none is removed meanwhile.
	reading sync.RWMutex

	mu       sync.Mutex
	segments []segment
	file     *os.File
	full     []*os.File // segments that are full and not yet synced
	seq      uint64
	prev     [sha256.Size]byte
	// partial says that a write was cut short and the file is longer than the segment.
	partial bool
	limit   limiter
	missing missing
	// rotateErr says why no new segment can be begun, syncErr why nothing comes to the disk.
	rotateErr, syncErr error
	closed             bool

	// settling counts the planned and running calls of settle, one at most.
	settling sync.WaitGroup
	planned  *time.Timer
}

// missing is what could not be written.
type missing struct {
	count int64
	since time.Time
	err   error
}

// Open opens the log and records the start. What a crash left of a last line is kept where it is and recorded. Only
// one process may have a log open. Close it.
func Open(o Options) (*Log, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.segmentBytes == 0 {
		o.segmentBytes = segmentBytes
	}
	l := &Log{Options: o}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("cannot open the audit log: %w", err)
	}
	return l, nil
}

func (l *Log) open() error {
	if len(l.Key) < keySize {
		return fmt.Errorf("its key has %d bytes and needs %d; restore keys/audit.key, or move it away and a new one is made", len(l.Key), keySize)
	}
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return err
	}
	end, err := l.resume()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if end.repair != nil {
		l.Logger.Error("the audit log did not end with a whole line", "line", l.seq+1, "reason", end.repair.Reason, "bytes", end.repair.Detail["bytes"])
		if err := l.append(*end.repair, end.lead); err != nil {
			return errors.Join(err, l.file.Close())
		}
		end.lead = ""
	}
	start := own(verbStart, Allowed)
	if l.Version != "" {
		start.Detail = map[string]string{"version": l.Version}
	}
	if err := l.append(start, end.lead); err != nil {
		return errors.Join(err, l.file.Close())
	}
	l.plan()
	return nil
}

// own gives an event of the log itself.
func own(verb string, result Result) Event {
	return Event{Time: time.Now(), Actor: Server, Verb: verb, Object: ownObject, Result: result}
}

// Record writes an event. When it returns the line is with the kernel, so that the end of the process does not lose
// it; within about a second it is on disk.
func (l *Log) Record(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if e.Time.IsZero() {
		e.Time = now
	}
	if l.limit.admit(e, now) {
		l.put(e)
	}
	l.plan()
}

// put writes an event, or counts it. The caller holds mu, as for all below that have no lock of their own.
func (l *Log) put(e Event) {
	if err := l.catchUp(); err != nil {
		l.miss(err)
	} else if err := l.append(e, ""); err != nil {
		l.miss(err)
	}
}

// catchUp says, before anything else, that lines are missing.
func (l *Log) catchUp() error {
	if l.closed {
		return errClosed
	}
	if l.missing.count == 0 {
		return nil
	}
	e := own(verbLost, Failed)
	e.Reason = "CannotWrite"
	e.Detail = map[string]string{"count": strconv.FormatInt(l.missing.count, 10), "since": l.missing.since.UTC().Format(time.RFC3339), "cause": l.missing.err.Error()}
	if err := l.append(e, ""); err != nil {
		return err
	}
	l.Logger.Info("the audit log can be written again", "lost", l.missing.count)
	l.missing = missing{}
	return nil
}

func (l *Log) miss(err error) {
	if l.closed {
		l.Logger.Warn("an event came after the audit log was closed")
	} else if l.missing.count == 0 {
		l.missing.since = time.Now()
		l.Logger.Error("cannot write the audit log; the server is not ready until it can", "err", err)
	}
	l.missing.count++
	l.missing.err = err
}

// append writes one line behind the last one, after lead. An error leaves the chain as it was.
func (l *Log) append(e Event, lead string) error {
	if l.partial {
		if err := l.file.Truncate(l.current().size); err != nil {
			return err
		}
		l.partial = false
	}
	l.rotate(e.Time)
	e = e.bounded()
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	line, hash, err := encode(l.Key, l.seq+1, l.prev, e)
	if err != nil {
		return err
	}
	n, err := l.file.Write(append([]byte(lead), line...))
	if err != nil {
		l.partial = n > 0
		return err
	}
	l.current().size += int64(n)
	l.seq, l.prev = l.seq+1, hash
	return nil
}

func (l *Log) current() *segment { return &l.segments[len(l.segments)-1] }

// Ready gives nil when every event so far is written: the server's readiness check `audit`.
func (l *Log) Ready(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return errClosed
	case l.missing.count > 0:
		return fmt.Errorf("cannot write the audit log: %d lines are lost: %w", l.missing.count, l.missing.err)
	case l.rotateErr != nil:
		return fmt.Errorf("cannot begin another segment of the audit log: %w", l.rotateErr)
	case l.syncErr != nil:
		return fmt.Errorf("cannot bring the audit log to the disk: %w", l.syncErr)
	}
	return nil
}

// Head gives the last line.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head()
}

func (l *Log) head() Head { return Head{Seq: l.seq, Hash: fmt.Sprintf("%x", l.prev)} }

// Close records the stop and brings everything to the disk. Events that come later are counted as lost. A second call
// does nothing.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	for _, e := range l.limit.all() {
		l.put(e)
	}
	l.put(own(verbStop, Allowed))
	l.closed = true
	if l.planned != nil && l.planned.Stop() {
		l.settling.Done()
	}
	l.mu.Unlock()
	l.settling.Wait()

	l.mu.Lock()
	defer l.mu.Unlock()
	l.Logger.Info("the audit log is closed", "head", l.head().String())
	err := errors.Join(syncAll(l.Dir, l.file, l.full), l.file.Close())
	if l.missing.count > 0 {
		err = errors.Join(err, fmt.Errorf("%d lines are lost: %w", l.missing.count, l.missing.err))
	}
	if err != nil {
		return fmt.Errorf("cannot close the audit log: %w", err)
	}
	return nil
}
