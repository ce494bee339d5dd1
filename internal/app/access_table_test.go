package app

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

// tableCell says what an answer means.
func tableCell(code int) string {
	switch {
	case code >= 200 && code < 400:
		return "yes"
	case code == http.StatusForbidden:
		return "no"
	default:
		return fmt.Sprint(code)
	}
}

// tableRow is one line of the table: what the columns got, and what they should.
type tableRow struct {
	name string
	got  map[string]string
	want func(column string) string
}

// fill asks one question of every row as each kind of person, some at the same time. Answers hold nothing of project dev
// for those who have no business there, and the secret for nobody.
func (p *accessPort) fill(t *testing.T, rows []*tableRow, questions []tableRequest) {
	t.Helper()
	got := make([][]string, len(rows))
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(8)
	for n := range rows {
		got[n] = make([]string, len(tableColumns()))
		for c, column := range tableColumns() {
			group.Go(func() error {
				code, body, err := p.ask(ctx, column, questions[n])
				if err != nil {
					return fmt.Errorf("%s as %s: %w", rows[n].name, column, err)
				}
				got[n][c] = tableCell(code)
				p.leaks(t, rows[n].name, column, questions[n].body, body)
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for n, r := range rows {
		r.got = map[string]string{}
		for c, column := range tableColumns() {
			r.got[column] = got[n][c]
		}
	}
}

const (
	// tableMark is on everything that belongs to project dev or to the platform.
	tableMark = "only-for-those-of-dev"
	// tableSecret is the value of every Secret of the table, in base64.
	tableSecret = "YS1zZWNyZXQtb2YtdGhlLXRhYmxl"
)

// leaks holds that an answer shows nothing that it must not; who makes a Secret is told what they sent.
func (p *accessPort) leaks(t *testing.T, name, column, sent, body string) {
	if !slices.Contains(tableLoggedIn()[1:], column) && strings.Contains(body, tableMark) {
		t.Errorf("%s showed %s something of project dev: %.500s", name, column, body)
	}
	if column != asRoot && strings.Contains(body, tableSecret) && !strings.Contains(sent, "a-secret-of-the-table") {
		t.Errorf("%s showed %s a secret: %.500s", name, column, body)
	}
}

// checkRows compares every cell with what is wanted.
func checkRows(t *testing.T, rows []*tableRow) {
	t.Helper()
	for _, r := range rows {
		for _, column := range tableColumns() {
			if want := r.want(column); r.got[column] != want {
				t.Errorf("%s as %s: %s, want %s", r.name, column, r.got[column], want)
			}
		}
	}
}

// line gives a row of the page.
func (r *tableRow) line(first string) string {
	cells := make([]string, len(tableColumns()))
	for n, column := range tableColumns() {
		cells[n] = r.got[column]
	}
	return "| " + first + " | " + strings.Join(cells, " | ") + " |\n"
}

func tableHead(first string) string {
	return "| " + first + " | " + strings.Join(tableColumns(), " | ") + " |\n|" + strings.Repeat("---|", len(tableColumns())+strings.Count(first, "|")+1) + "\n"
}

// TestAccessTable makes every request that there is, of every kind of person, on the real port before the real API. What
// each should get is said beside the rows; the page says it to people. A route, kind, verb or path of the API server that
// has no row fails, and so does a row that nothing serves.
func TestAccessTable(t *testing.T) {
	p := newAccessWorld(t).port(t)
	objects := p.fixtures(t)
	t.Run("Smuggling", p.smuggling)
	// The routes come last: some of them end tokens.
	kinds, paths := p.kindsPart(t, objects), p.pathsPart(t)
	page := accessIntroduction + p.routesPart(t) + paths + kinds
	path := filepath.Join("..", "..", "docs", "reference", "access.md")
	if os.Getenv("UPDATE_GOLDEN") == "1" && !t.Failed() {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), page); diff != "" {
		t.Errorf("%s (-file +now); UPDATE_GOLDEN=1 writes it:\n%s", path, diff)
	}
}

const accessIntroduction = `# Who may do what

This page is written by a test that asks every question in it, on the real port before the real API (` + "`internal/app` TestAccessTable" + `):
` + "`UPDATE_GOLDEN=1 go test -run TestAccessTable ./internal/app`" + `. What each answer should be is said in that test, row by row;
a route, kind, verb or path without a row fails it.

All requests are about project dev, of which the three members of the middle columns are members.

| column | who asks |
|---|---|
| anonymous | nobody: no credential |
| disabled user | a system administrator who was disabled, with a token that was good |
| expired token | a system administrator, with a token that has ended |
| other project | the administrator of another project |
| read-only, cluster administrator, project administrator | a member of dev with that role |
| auditor, system administrator | a person with that role in the platform |
| admin token | the token in the data directory: root's own way in on the server |

*yes*: done (changes are tried as a dry run, with every rule and policy). *no*: 403. *401*: log in. Another number is the
status of an answer that has nothing to do with who asks.

`

const routesIntroduction = `## Routes

What the port answers itself below ` + "`/slipway/`" + `. *anyone* is before login: such a route proves who somebody is by itself, and
is limited in rate. *the person* speaks of whoever asks and of nobody else. Everything else is asked of RBAC, in the
project of the path. Behind ` + "`proxy/`" + ` the cluster's own RBAC decides, by the roles that Slipway keeps there: here it is one that
lets viewers read.

`

const pathsIntroduction = `
## Other paths

What the API server serves beside its kinds, what the port answers before it asks who it is, and some paths that must
lead nowhere. ` + "`/v2/`" + ` is the registry of bundles: it knows the tokens of clusters, and no person. A row that ends with … stands
for all paths below it.

`

const kindsIntroduction = `
## Kinds

Every kind that the API serves, with every verb. A row is about an object in dev or of the platform; *in all projects*
asks for those of all namespaces at once. Kinds with a group behind the dot are Kubernetes' own. A member's list of
projects holds the member's own alone.

`
