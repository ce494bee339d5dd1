package auditlog

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"slipway.dev/slipway/internal/audit"
)

const (
	defaultLimit = 100
	maxLimit     = 1000

	formatJSON = "json"
	formatCSV  = "csv"
)

// parse reads the query of a request. A parameter that nobody knows is refused: a filter that is spelled wrong would
// show more than was asked for.
func parse(r *http.Request) (q audit.Query, format string, err error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, "", apierrors.NewBadRequest("cannot read the query of the request")
	}
	format, order, result, people := formatJSON, "newest", "", ""
	limit := uint64(0)
	number := func(to *uint64, most uint64) func(string) error {
		return func(text string) (err error) {
			if *to, err = strconv.ParseUint(text, 10, 64); err == nil && (*to == 0 || *to > most) {
				err = fmt.Errorf("it is not from 1 to %d", most)
			}
			return err
		}
	}
	known := map[string]func(string) error{
		"since": moment(&q.Since), "until": moment(&q.Until),
		"actor": text(&q.Actor), "project": text(&q.Project), "verb": text(&q.Verb), "object": text(&q.Object), "contains": text(&q.Contains),
		"result": oneOf(&result, string(audit.Allowed), string(audit.Refused), string(audit.Failed)),
		"people": oneOf(&people, "true", "false"),
		"format": oneOf(&format, formatJSON, formatCSV), "order": oneOf(&order, "newest", "oldest"),
		"limit": number(&limit, maxLimit), "after": number(&q.After, 1<<63),
	}
	for name, given := range values {
		read, ok := known[name]
		if !ok || len(given) != 1 {
			return q, "", apierrors.NewBadRequest(fmt.Sprintf("cannot search the audit log: %q is not one of the parameters, or is there twice", name))
		}
		if given[0] == "" {
			continue
		}
		if err := read(given[0]); err != nil {
			return q, "", apierrors.NewBadRequest(fmt.Sprintf("cannot search the audit log: cannot read %s %q: %v", name, given[0], err))
		}
	}
	q.Result, q.Oldest, q.People = audit.Result(result), order == "oldest", people == "true"
	if q.Limit = int(limit); limit == 0 && format == formatJSON {
		q.Limit = defaultLimit
	}
	// Whatever was asked for, a project has its own lines alone.
	if project := r.PathValue("project"); project != "" {
		q.Project = project
	}
	return q, format, nil
}

func text(to *string) func(string) error {
	return func(given string) error {
		*to = given
		return nil
	}
}

func oneOf(to *string, choices ...string) func(string) error {
	return func(given string) error {
		if !slices.Contains(choices, given) {
			return fmt.Errorf("choose one of %s", strings.Join(choices, ", "))
		}
		*to = given
		return nil
	}
}

// moment reads a time, or a day as its first moment in UTC.
func moment(to *time.Time) func(string) error {
	return func(given string) (err error) {
		if *to, err = time.Parse(time.RFC3339, given); err == nil {
			return nil
		}
		if *to, err = time.Parse(time.DateOnly, given); err != nil {
			return fmt.Errorf("give a time as 2025-03-01T12:00:00Z or a day as 2025-03-01")
		}
		return nil
	}
}
