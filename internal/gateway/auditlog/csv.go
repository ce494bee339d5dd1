package auditlog

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/internal/audit"
)

// table answers with every line that is chosen as a table for spreadsheets.
func (h handler) table(w http.ResponseWriter, r *http.Request, q audit.Query) error {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", "text/csv; charset=utf-8")
	header.Set("Content-Disposition", `attachment; filename="audit.csv"`)
	rows := csv.NewWriter(w)
	if err := rows.Write([]string{"seq", "time", "actor", "via", "from", "verb", "object", "project", "code", "result", "reason", "detail", "hash"}); err != nil {
		return err
	}
	_, err := h.log.Search(r.Context(), q, func(line []byte) error {
		var l audit.Line
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("cannot read a line of the audit log: %w", err)
		}
		return rows.Write(row(l))
	})
	rows.Flush()
	if err != nil {
		return err
	}
	return rows.Error()
}

func row(l audit.Line) []string {
	e := l.Event
	details := make([]string, 0, len(e.Detail))
	for _, key := range slices.Sorted(maps.Keys(e.Detail)) {
		details = append(details, key+"="+e.Detail[key])
	}
	cells := []string{strconv.FormatUint(l.Seq, 10), e.Time.Format(time.RFC3339Nano), e.Actor, e.Via, e.From, e.Verb, e.Object, e.Project,
		strconv.Itoa(e.Code), string(e.Result), e.Reason, strings.Join(details, " "), l.Hash}
	for i := range cells {
		cells[i] = harmless(cells[i])
	}
	return cells
}

// harmless keeps a spreadsheet from taking a text for a formula: anyone can choose the name they try to log in with.
func harmless(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}
