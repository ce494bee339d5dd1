package secret

import (
	"bytes"
	"io"
)

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
