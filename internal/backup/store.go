package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/internal/fault"
)

// Store is a place where backups are kept. Names are those of backups (CheckName). Implementations are safe for
// concurrent use, and no error of theirs holds a credential.
type Store interface {
	// Put keeps content under name, reads it back, and compares. After an error nothing is kept. A name that is there
	// already is left alone, and the error is fs.ErrExist.
	Put(ctx context.Context, name string, content io.Reader) (Object, error)
	// Get reads name. One that is missing gives an error that is fs.ErrNotExist. The caller closes it.
	Get(ctx context.Context, name string) (io.ReadCloser, error)
	// List describes what has a name that begins with prefix, in order of name; the empty prefix means all. What is not
	// named like a backup is left out.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Remove deletes name. Nothing there is fine.
	Remove(ctx context.Context, name string) error
	// Test writes, reads, lists and removes a probe, and says what of that failed and what to do. It makes the directory
	// or bucket when that is missing.
	Test(ctx context.Context) error
}

// Object describes one kept backup.
type Object struct {
	Name string
	// Size is in bytes.
	Size int64
	// SHA256 is in hex. Only Put gives it: it read the whole file.
	SHA256 string
	// Modified is when it was written; Put leaves it out.
	Modified time.Time
}

// cleanUpTime bounds the removal of what a failed Put leaves, which happens also when its context has ended.
const cleanUpTime = 30 * time.Second

// Measured is a source that counts and digests what is read from it. It ends with the context, and its failures are never
// taken for its end.
type Measured struct {
	source
	sum  hash.Hash
	size int64
}

// Measure gives a reader of from that knows what was read.
func Measure(ctx context.Context, from io.Reader) *Measured {
	return &Measured{source: source{ctx.Err, from}, sum: sha256.New()}
}

// Read is io.Reader's.
func (m *Measured) Read(into []byte) (int, error) {
	n, err := m.source.Read(into)
	m.sum.Write(into[:n])
	m.size += int64(n)
	return n, err
}

// Object describes what was read so far, under a name.
func (m *Measured) Object(name string) Object {
	return Object{Name: name, Size: m.size, SHA256: hex.EncodeToString(m.sum.Sum(nil))}
}

// readBack compares what the store gives with what it was given.
func readBack(ctx context.Context, s Store, want Object) error {
	stored, err := s.Get(ctx, want.Name)
	if err != nil {
		return err
	}
	m := Measure(ctx, stored)
	_, err = io.Copy(io.Discard, m)
	if err := errors.Join(err, stored.Close()); err != nil {
		return fmt.Errorf("cannot read it back: %w", err)
	}
	if got := m.Object(want.Name); got != want {
		return fault.NewTerminal("StoreCorrupts", "use https://, and ask who runs the store; nothing was kept",
			fmt.Errorf("the store gave back %d bytes with digest %s, and was given %d bytes with digest %s", got.Size, got.SHA256, want.Size, want.SHA256))
	}
	return nil
}

// Probe does what Test promises, for a store that makes its place when it puts something there.
func Probe(ctx context.Context, s Store) error {
	name := NewName("slipway", "probe")
	content := []byte(strings.Repeat(rand.Text()+"\n", 64))
	if _, err := s.Put(ctx, name, bytes.NewReader(content)); err != nil {
		return fmt.Errorf("the test to write failed: %w", err)
	}
	if err := probeKept(ctx, s, name, content); err != nil {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
		defer cancel()
		return errors.Join(err, s.Remove(after, name))
	}
	if err := s.Remove(ctx, name); err != nil {
		return fmt.Errorf("the test to remove failed: %w", err)
	}
	return nil
}

func probeKept(ctx context.Context, s Store, name string, content []byte) error {
	stored, err := s.Get(ctx, name)
	if err != nil {
		return fmt.Errorf("the test to read failed: %w", err)
	}
	got, err := io.ReadAll(io.LimitReader(stored, int64(len(content))+1))
	if err := errors.Join(err, stored.Close()); err != nil {
		return fmt.Errorf("the test to read failed: %w", err)
	}
	if !bytes.Equal(got, content) {
		return errors.New("the test to read failed: it gave something else than was written")
	}
	found, err := s.List(ctx, name)
	if err != nil {
		return fmt.Errorf("the test to list failed: %w", err)
	}
	if !slices.ContainsFunc(found, func(o Object) bool { return o.Name == name }) {
		return errors.New("the test to list failed: what was written is not in the list")
	}
	return nil
}
