// Package auditlog owns the way to read the audit log over HTTP: searched page by page, of the platform or of one
// project, and exported whole. It must never change the log, nor show a project another one's lines.
package auditlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/gateway"
)

// searchTime is how long one request searches; then it answers with what it found and where to go on.
const searchTime = 5 * time.Second

// Log is what the routes read; audit.Log is one.
type Log interface {
	Search(ctx context.Context, q audit.Query, see func(line []byte) error) (next uint64, err error)
	Export(ctx context.Context, w io.Writer) error
}

// Routes gives the routes of the audit log. RBAC asks for get on audit, in the whole platform or in the project.
func Routes(log Log) []gateway.Route {
	h := handler{log}
	rule := gateway.Rule{RBAC: &access.Attributes{Verb: "get", Resource: "audit"}}
	return []gateway.Route{
		{Method: "GET", Path: "/slipway/v1/audit", Rule: rule, Serve: h.search},
		{Method: "GET", Path: "/slipway/v1/audit/export", Rule: rule, Verb: "export-audit", Long: true, Serve: h.export},
		{Method: "GET", Path: "/slipway/v1/projects/{project}/audit", Rule: rule, Serve: h.search},
	}
}

type handler struct{ log Log }

// Page is one answer of a search.
type Page struct {
	// Items are the lines as they are in the log; see audit.Line.
	Items []json.RawMessage `json:"items"`
	// Next is what `after` must be for the next page; 0 when nothing is left. A page may hold fewer lines than the
	// limit, and still not be the last.
	Next uint64 `json:"next,omitempty"`
}

func (h handler) search(w http.ResponseWriter, r *http.Request) error {
	q, format, err := parse(r)
	if err != nil {
		return err
	}
	if format == formatCSV {
		return h.table(w, r, q)
	}
	ctx, cancel := context.WithTimeout(r.Context(), searchTime)
	defer cancel()
	page := Page{Items: []json.RawMessage{}}
	page.Next, err = h.log.Search(ctx, q, func(line []byte) error {
		page.Items = append(page.Items, bytes.Clone(bytes.TrimSpace(line)))
		return nil
	})
	if err != nil && (r.Context().Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
		return err
	}
	return gateway.WriteJSON(w, page)
}

func (h handler) export(w http.ResponseWriter, r *http.Request) error {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", "application/x-ndjson")
	header.Set("Content-Disposition", `attachment; filename="audit.jsonl"`)
	return h.log.Export(r.Context(), w)
}
