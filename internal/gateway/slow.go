package gateway

import (
	"net/http"
	"time"
)

const (
	// writeTime is how long a client may take for one piece of an answer.
	writeTime = time.Minute
	// writePiece is how large such a piece is at most.
	writePiece = 64 << 10
)

// impatient cuts an answer whose client does not read. Between two pieces it waits for ever: a watch may be silent.
type impatient struct {
	http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
}

func newImpatient(w http.ResponseWriter, limit time.Duration) *impatient {
	return &impatient{ResponseWriter: w, control: http.NewResponseController(w), limit: limit}
}

// Write gives each piece its own time.
func (w *impatient) Write(b []byte) (int, error) {
	written := 0
	for {
		piece := b[written:min(len(b), written+writePiece)]
		n, err := w.timed(func() (int, error) { return w.ResponseWriter.Write(piece) })
		written += n
		if err != nil || written == len(b) {
			return written, err
		}
	}
}

// Flush is FlushError for those who do not ask whether it worked.
func (w *impatient) Flush() { _ = w.FlushError() }

// FlushError sends what is buffered, in time.
func (w *impatient) FlushError() error {
	_, err := w.timed(func() (int, error) { return 0, w.control.Flush() })
	return err
}

func (w *impatient) timed(do func() (int, error)) (int, error) {
	// Not every connection has deadlines; where it has none the limit of connections must do.
	_ = w.control.SetWriteDeadline(time.Now().Add(w.limit))
	n, err := do()
	if err == nil {
		_ = w.control.SetWriteDeadline(time.Time{})
	}
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *impatient) Unwrap() http.ResponseWriter { return w.ResponseWriter }
