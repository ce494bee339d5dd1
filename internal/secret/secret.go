// Package secret owns the values that must never be printed, and takes them out of text.
// It must never store a value anywhere but in memory, and never print one.
package secret

import (
	"bytes"
	"encoding/base64"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Mask stands where a secret was.
const Mask = "[redacted]"

// shortest is the length in bytes below which a value is left alone: masking "a" would destroy all text.
const shortest = 4

// shortestLine is the same for single lines of a value with many lines.
const shortestLine = 16

// Set is a set of values that must never be printed. The zero Set is empty and ready; it is safe for concurrent use.
type Set struct {
	mu       sync.Mutex
	known    map[string]bool
	replacer atomic.Pointer[strings.Replacer]
}

// Add puts values into the set, with their base64 forms and, for values of many lines, each long line.
// Values under 4 bytes are ignored.
func (s *Set) Add(values ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]bool{}
	}
	before := len(s.known)
	for _, v := range values {
		s.add(v)
	}
	if len(s.known) == before {
		return
	}
	forms := make([]string, 0, len(s.known))
	for form := range s.known {
		forms = append(forms, form)
	}
	// The longest form comes first, so that a part never hides the whole.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(forms))
	for _, form := range forms {
		pairs = append(pairs, form, Mask)
	}
	s.replacer.Store(strings.NewReplacer(pairs...))
}

func (s *Set) add(value []byte) {
	value = bytes.TrimSpace(value)
	if len(value) < shortest {
		return
	}
	s.known[string(value)] = true
	s.known[base64.StdEncoding.EncodeToString(value)] = true
	for line := range bytes.Lines(value) {
		line = bytes.TrimSpace(line)
		if len(line) >= shortestLine && !bytes.HasPrefix(line, []byte("-----")) {
			s.known[string(line)] = true
		}
	}
}

// Redact gives text with every known value replaced by Mask.
func (s *Set) Redact(text string) string {
	r := s.replacer.Load()
	if r == nil {
		return text
	}
	return r.Replace(text)
}

// Writer gives a writer that passes whole lines to next without secrets. Close passes the last, unfinished line.
// It is not safe for concurrent use.
func (s *Set) Writer(next io.Writer) io.WriteCloser { return &lineWriter{set: s, next: next} }

type lineWriter struct {
	set  *Set
	next io.Writer
	rest []byte
}

// Write keeps what follows the last line end until more comes.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	end := bytes.LastIndexByte(w.rest, '\n') + 1
	if end == 0 {
		return len(p), nil
	}
	if _, err := io.WriteString(w.next, w.set.Redact(string(w.rest[:end]))); err != nil {
		return 0, err
	}
	w.rest = append(w.rest[:0], w.rest[end:]...)
	return len(p), nil
}

// Close passes the rest on; next stays open.
func (w *lineWriter) Close() error {
	if len(w.rest) == 0 {
		return nil
	}
	_, err := io.WriteString(w.next, w.set.Redact(string(w.rest)))
	w.rest = nil
	return err
}
