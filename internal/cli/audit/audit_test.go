package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
)

var key = bytes.Repeat([]byte("k3y-"), 8)

// line gives a line as the server does.
func line(seq uint64, e audit.Event) audit.Line {
	e.Time = time.Date(2025, 3, 1, 12, 0, int(seq), 0, time.UTC)
	return audit.Line{Seq: seq, Prev: strings.Repeat("0", 64), Event: e, Hash: strings.Repeat("a", 64), MAC: strings.Repeat("b", 64)}
}

func all() []audit.Line {
	return []audit.Line{
		line(3, audit.Event{Actor: "alice", Via: "token:a1", From: "10.0.0.1", Verb: "create", Object: "clusters dev/blue", Project: "dev", Code: 201, Result: audit.Allowed}),
		line(2, audit.Event{From: "10.0.0.9", Verb: "get", Object: "/api\x1b[31m", Code: 401, Result: audit.Refused, Reason: "Unauthorized"}),
		line(1, audit.Event{Actor: audit.Server, Verb: "use-credential", Object: "credentials lab", Result: audit.Failed, Reason: "LoginRefused", Detail: map[string]string{"host": "w1", "address": "10.0.0.5"}}),
	}
}

// serve answers with one line a page, so that the command has to go on; asked gets each request.
func serve(b *outputtest.Bench, asked *[]string, lines ...audit.Line) {
	handle := func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.Path+"?"+r.URL.RawQuery)
		page := map[string]any{"items": []audit.Line{}}
		for i, l := range lines {
			if after := r.URL.Query().Get("after"); after == "" || after == fmt.Sprint(l.Seq+1) {
				page["items"] = []audit.Line{l}
				if i < len(lines)-1 {
					page["next"] = l.Seq
				}
				break
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(page)
	}
	b.Mux.HandleFunc("GET /slipway/v1/audit", handle)
	b.Mux.HandleFunc("GET /slipway/v1/projects/{project}/audit", handle)
}

func TestList(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		args   []string
		lines  []audit.Line
		asked  []string
		code   output.ExitCode
		out    string
	}{
		"Table": {"a page after the other, and no control characters of a client on the terminal", nil, all(),
			[]string{"/slipway/v1/audit?limit=50", "/slipway/v1/audit?after=3&limit=49", "/slipway/v1/audit?after=2&limit=48"}, 0,
			`TIME                  ACTOR            VERB             OBJECT              RESULT
2025-03-01 12:00:03   alice            create           clusters dev/blue   Allowed
2025-03-01 12:00:02   (nobody)         get              /api[31m            Refused
2025-03-01 12:00:01   system:slipway   use-credential   credentials lab     Failed
`},
		"Wide": {"all there is", []string{"-o", "wide", "--limit", "1"}, all()[2:], []string{"/slipway/v1/audit?limit=1"}, 0,
			`TIME                  ACTOR            VERB             OBJECT            RESULT   CODE   REASON         FROM   VIA   DETAIL                     SEQ
2025-03-01 12:00:01   system:slipway   use-credential   credentials lab   Failed   -      LoginRefused   -      -     address=10.0.0.5 host=w1   1
`},
		"Limit": {"no more than asked for", []string{"--limit", "1"}, all(), []string{"/slipway/v1/audit?limit=1"}, 0,
			`TIME                  ACTOR   VERB     OBJECT              RESULT
2025-03-01 12:00:03   alice   create   clusters dev/blue   Allowed
`},
		"Filters": {"every filter goes to the server", []string{"--since", "24h", "--until", "2025-03-02", "--actor", "alice", "--verb", "create", "--object", "dev/blue",
			"--result", "Allowed", "--contains", "10.0", "--people", "--oldest", "--limit", "0"}, all()[:1],
			[]string{"/slipway/v1/audit?actor=alice&contains=10.0&limit=1000&object=dev%2Fblue&order=oldest&people=true&result=Allowed&since=2030-01-01T03%3A04%3A05Z&until=2025-03-02&verb=create"}, 0,
			`TIME                  ACTOR   VERB     OBJECT              RESULT
2025-03-01 12:00:03   alice   create   clusters dev/blue   Allowed
`},
		"Project": {"administrators of a project have a way of their own", []string{"-p", "dev"}, all()[:1], []string{"/slipway/v1/projects/dev/audit?limit=50"}, 0,
			`TIME                  ACTOR   VERB     OBJECT              RESULT
2025-03-01 12:00:03   alice   create   clusters dev/blue   Allowed
`},
		"Nothing":  {"nothing on standard output", nil, nil, []string{"/slipway/v1/audit?limit=50"}, 0, ""},
		"JSON":     {"nothing is an empty list for programs", []string{"-o", "json"}, nil, []string{"/slipway/v1/audit?limit=50"}, 0, "{\n  \"items\": []\n}\n"},
		"BadLimit": {"a limit that is none", []string{"--limit", "-1"}, nil, nil, output.ExitUsage, ""},
		"BadArgs":  {"no arguments", []string{"alice"}, nil, nil, output.ExitUsage, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{})
			var asked []string
			serve(b, &asked, tc.lines...)
			code := b.Run(t.Context(), New(b.Deps, t.TempDir()), append([]string{"list"}, tc.args...)...)
			if code != tc.code {
				t.Fatalf("%s: exit code %d: %s", tc.reason, code, b.Everything())
			}
			if diff := cmp.Diff(tc.asked, asked); diff != "" {
				t.Errorf("%s: asked: -want +got\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.out, b.Out.String()); diff != "" {
				t.Errorf("%s: -want +got\n%s", tc.reason, diff)
			}
		})
	}
}

func TestListRefused(t *testing.T) {
	b := outputtest.New(t, outputtest.Hooks{})
	const says = "alice may not get audit in project dev"
	b.Mux.HandleFunc("GET /slipway/v1/audit", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":%q}`, says)
	})
	code := b.Run(t.Context(), New(b.Deps, t.TempDir()), "list")
	if code != output.ExitRefused || !strings.Contains(b.Everything(), says) {
		t.Errorf("exit code %d, want what the server says in %s", code, b.Everything())
	}
}

func TestListForPrograms(t *testing.T) {
	b := outputtest.New(t, outputtest.Hooks{})
	var asked []string
	serve(b, &asked, all()...)
	if code := b.Run(t.Context(), New(b.Deps, t.TempDir()), "list", "-o", "json"); code != 0 {
		t.Fatal(b.Everything())
	}
	var got struct{ Items []audit.Line }
	if err := json.Unmarshal([]byte(b.Out.String()), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all(), got.Items); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// server makes a data directory with a log of 12 lines, its export and its head.
func server(t *testing.T) (dataDir string, export []byte, head audit.Head) {
	t.Helper()
	dataDir = t.TempDir()
	if err := os.MkdirAll(filepath.Join(dataDir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dataDir, audit.KeyName), append(bytes.Clone(key), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(audit.Options{Dir: filepath.Join(dataDir, audit.DirName), Key: key})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all() {
		log.Record(l.Event)
	}
	head = log.Head()
	var b bytes.Buffer
	if err := log.Export(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return dataDir, b.Bytes(), head
}

func TestExport(t *testing.T) {
	_, export, head := server(t)
	for name, tc := range map[string]struct {
		reason string
		answer []byte
		code   output.ExitCode
		want   string
	}{
		"Whole": {"the log goes out, the head to the person", export, 0, "4 lines; head " + head.String() + "\n"},
		"Cut":   {"an answer that ends early is no export", export[:len(export)-5], output.ExitFailed, "ends in the middle of a line"},
		"Empty": {"nor is an empty one", nil, output.ExitFailed, "is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{})
			b.Mux.HandleFunc("GET /slipway/v1/audit/export", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(tc.answer) })
			code := b.Run(t.Context(), New(b.Deps, t.TempDir()), "export")
			if code != tc.code || !strings.Contains(b.ErrOut.String(), tc.want) {
				t.Errorf("%s: exit code %d, %q", tc.reason, code, b.ErrOut.String())
			}
			if code == 0 && b.Out.String() != string(tc.answer) {
				t.Errorf("%s: the export is not what the server sent", tc.reason)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	dataDir, export, head := server(t)
	other, _, _ := server(t)
	dir := t.TempDir()
	file := func(name string, content []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole := file("whole", export, 0o644)
	changed := file("changed", bytes.Replace(export, []byte("alice"), []byte("malic"), 1), 0o644)
	lines := bytes.SplitAfter(export, []byte("\n"))
	short := file("short", bytes.Join(lines[:3], nil), 0o644)
	private := file("key", key, 0o600)
	open := file("open", key, 0o644)
	wrong := file("wrong", bytes.Repeat([]byte("0th3r-"), 8), 0o600)
	if err := os.Remove(filepath.Join(other, audit.KeyName)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		reason string
		args   []string
		code   output.ExitCode
		want   []string
	}{
		"Server":      {"on the server's machine, with its key", []string{"--data-dir", dataDir}, 0, []string{"lines:   5, from 1 to 5", "every line was written by the server"}},
		"ServerHead":  {"and a head from before", []string{"--data-dir", dataDir, "--head", head.String()}, 0, []string{"line 4 is the one that was noted down"}},
		"NoKey":       {"a copy without the key says so", []string{"--data-dir", other}, 0, []string{"not looked at", "lines:   5"}},
		"File":        {"an export, anywhere", []string{"--file", whole}, 0, []string{"lines:   4, from 1 to 4", "not looked at", "head:    " + head.String()}},
		"FileKey":     {"an export with the key", []string{"--file", whole, "--key", private}, 0, []string{"every line was written"}},
		"Stdin":       {"from standard input", []string{"--file", "-"}, 0, []string{"lines:   4"}},
		"Machine":     {"for programs", []string{"--file", whole, "--key", private, "-o", "json"}, 0, []string{`"signed": true`, `"seq": 4`}},
		"Changed":     {"a changed line is found without any key", []string{"--file", changed}, output.ExitFailed, []string{"line 2 was changed", "fix: keep a copy"}},
		"ChangedJSON": {"and programs see it too", []string{"--file", changed, "-o", "json"}, output.ExitFailed, []string{`"count": 1`}},
		"Short":       {"an end that is missing is found with a head", []string{"--file", short, "--head", head.String()}, output.ExitFailed, []string{"the end is missing: line 4 was noted down, and the last is line 3"}},
		"WrongKey":    {"another server's log", []string{"--file", whole, "--key", wrong}, output.ExitFailed, []string{"lines 1 to 4 were not written by the server"}},
		"OpenKey":     {"a key that others read proves nothing", []string{"--file", whole, "--key", open}, output.ExitFailed, []string{"others may read"}},
		"NoSuchKey":   {"a key that was asked for must be there", []string{"--file", whole, "--key", filepath.Join(dir, "none")}, output.ExitFailed, []string{"cannot read"}},
		"NoSuchFile":  {"nothing to verify", []string{"--file", filepath.Join(dir, "none")}, output.ExitFailed, []string{"cannot verify"}},
		"NoLog":       {"no log there", []string{"--data-dir", dir}, output.ExitFailed, []string{"cannot verify"}},
		"BadHead":     {"a head that is none", []string{"--file", whole, "--head", "4"}, output.ExitUsage, []string{"SEQ:HASH"}},
		"Both":        {"one of the two", []string{"--file", whole, "--data-dir", dataDir}, output.ExitUsage, []string{"give one"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{})
			b.In.Write(export)
			code := b.Run(t.Context(), New(b.Deps, dir), append([]string{"verify"}, tc.args...)...)
			if code != tc.code {
				t.Errorf("%s: exit code %d, want %d", tc.reason, code, tc.code)
			}
			for _, want := range tc.want {
				if !strings.Contains(b.Everything(), want) {
					t.Errorf("%s: %q is not in\n%s", tc.reason, want, b.Everything())
				}
			}
		})
	}
}
