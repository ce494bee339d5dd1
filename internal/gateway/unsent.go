package gateway

import (
	"net/http"
	"time"
)

// unsent answers a client that may not have sent its body yet. Who speaks HTTP/2 stops sending when the answer is a
// refusal, while the proxy would wait for the rest of the body before it ends the answer: both would wait.
type unsent struct{ http.ResponseWriter }

// withUnsent gives the writer for a request that has a body.
func withUnsent(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	if r.ProtoMajor != 2 || r.ContentLength == 0 {
		return w
	}
	return unsent{w}
}

// WriteHeader ends the reading of the body when the answer is one at which clients stop sending it.
func (w unsent) WriteHeader(code int) {
	if code >= http.StatusMultipleChoices {
		// Without deadlines the body has its time limit all the same.
		_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Now())
	}
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (w unsent) Unwrap() http.ResponseWriter { return w.ResponseWriter }
