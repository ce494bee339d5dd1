// Package archtest owns the rules of the tree: which package may import which, and what no file may hold.
// It must never check behaviour. Every exception is listed here with its reason.
package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "slipway.dev/slipway"

// rings lists the folders from the outside in; a package may import its own ring's root packages and what is further in.
// A folder's root package is its contract and sits one ring further in than its sub-folders.
func rings() [][]string {
	return [][]string{
		{"cmd/slipway", "test"},
		{"internal/app"},
		{"internal/controller/", "internal/gateway/", "internal/cli/"},
		{"internal/gateway", "internal/operation/operationtest", "internal/impact"},
		{"internal/plan/", "internal/step/"},
		{"internal/operation"},
		{"internal/plan", "internal/cluster/"},
		{"internal/step"},
		{"internal/host/"},
		{"internal/host"},
		{"internal/cluster", "internal/controlplane", "internal/bundle/", "internal/secret/", "internal/auth/", "internal/grant", "internal/sandbox", "internal/drill", "internal/backup/"},
		{"internal/auth"},
		{"internal/access", "internal/backup"},
		{"internal/audit", "internal/bundle", "internal/blob", "internal/pki", "internal/secret", "internal/fault", "catalog", "internal/archtest"},
		{"api/"},
	}
}

// exceptions may import further out, or beside; each says why.
func exceptions() map[string]string {
	return map[string]string{
		"internal/gateway/ internal/gateway":                  "what the port serves itself is said in its root package's Route",
		"internal/cli/ internal/cli/output":                   "output is the contract that all nouns share",
		"internal/auth internal/access":                       "it puts people in the groups that access gives their rights",
		"internal/plan/create internal/step/":                 "a plan verb lists the steps it plans",
		"internal/plan/backup internal/step/":                 "a plan verb lists the steps it plans",
		"internal/plan/drill internal/step/":                  "a plan verb lists the steps it plans",
		"internal/plan/restore internal/step/":                "a plan verb lists the steps it plans",
		"internal/plan/scale internal/step/":                  "a plan verb lists the steps it plans",
		"internal/plan/upgrade internal/step/":                "a plan verb lists the steps it plans",
		"internal/plan/configure internal/step/":              "a plan verb lists the steps it plans",
		"internal/plan/renew internal/step/":                  "a plan verb lists the steps it plans",
		"internal/plan/stop internal/step/":                   "a plan verb lists the steps it plans",
		"internal/plan/start internal/step/":                  "a plan verb lists the steps it plans",
		"internal/plan/stages internal/step/":                 "it lists the steps that verbs have in common",
		"internal/plan/ internal/plan/stages":                 "the stages that verbs are built from",
		"internal/plan/ internal/plan/stages/stagestest":      "tests",
		"internal/controller/operation internal/plan/":        "the reconciler of operations calls the planner of each verb",
		"internal/controller/cluster internal/plan/stages":    "the endpoint of a cluster is what its plan said",
		"internal/cluster internal/step":                      "it implements step.ClusterReader and step.ClusterWriter",
		"internal/cluster internal/host":                      "it reaches clusters through host sessions",
		"internal/cluster internal/host/fake":                 "tests",
		"internal/cluster/fake internal/cluster/etcdtest":     "conformance",
		"internal/controller/host internal/host/ssh":          "it decides how each host is logged in to",
		"internal/controller/operation internal/step/":        "it mints the keys that kubeadm's steps name",
		"internal/controller/backup internal/step/":           "it reads the keys that kubeadm's steps name",
		"internal/controller/cluster internal/step/":          "it reads the keys that kubeadm's steps name",
		"internal/bundle catalog":                             "tests",
		"internal/cli/ internal/cli/output/outputtest":        "tests",
		"internal/host/fake internal/host/":                   "conformance",
		"internal/host/backupdir internal/host/fake":          "tests",
		"internal/host/ssh internal/host/backupdir":           "conformance",
		"internal/host/ssh internal/host/hosttest":            "conformance",
		"internal/operation internal/operation/operationtest": "tests",
		"internal/operation internal/host/fake":               "tests",
	}
}

// ringOf gives the ring of a package and the length of the entry that matched; -1 when none does.
func ringOf(pkg string) int {
	best, ring := 0, -1
	for i, entries := range rings() {
		for _, e := range entries {
			match := pkg == e || (strings.HasSuffix(e, "/") && strings.HasPrefix(pkg, e)) || (e == "test" && strings.HasPrefix(pkg, "test/"))
			if match && len(e) > best {
				best, ring = len(e), i
			}
		}
	}
	return ring
}

func allowed(from, to string) bool {
	if from == to {
		return true
	}
	for pair := range exceptions() {
		a, b, _ := strings.Cut(pair, " ")
		if matches(from, a) && matches(to, b) {
			return true
		}
	}
	a, b := ringOf(from), ringOf(to)
	// Sub-packages of one package are its own room.
	inside := strings.HasPrefix(to, from+"/") || (ringOf(from) == ringOf(to) && sameRoom(from, to))
	return b > a || inside
}

// sameRoom says that both are below the same package of an area, such as internal/controlplane/x and internal/controlplane/y.
func sameRoom(a, b string) bool {
	pa, pb := strings.Split(a, "/"), strings.Split(b, "/")
	return len(pa) > 3 && len(pb) > 3 && slices.Equal(pa[:3], pb[:3])
}

func matches(pkg, pattern string) bool {
	return pkg == pattern || (strings.HasSuffix(pattern, "/") && strings.HasPrefix(pkg, pattern))
}

type source struct {
	path, pkg string
	file      *ast.File
	set       *token.FileSet
	text      string
}

// sources parses every Go file of ours, tests included.
func sources(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var all []source
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || name == "bin" || name == "tools") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{path: rel, pkg: filepath.Dir(rel), file: f, set: set, text: string(text)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("found only %d files: the walk is wrong", len(all))
	}
	return all
}

func TestImportsPointInward(t *testing.T) {
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") && strings.HasPrefix(s.pkg, "test") {
			continue
		}
		if ringOf(s.pkg) < 0 {
			t.Errorf("%s: folder %s is in no ring; add it to rings() or move the file", s.path, s.pkg)
			continue
		}
		for _, i := range s.file.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			to, ours := strings.CutPrefix(path, module+"/")
			if !ours {
				continue
			}
			if !allowed(s.pkg, to) {
				t.Errorf("%s imports %s: imports go inward only, and siblings never import each other", s.path, to)
			}
		}
	}
}

func TestForbidden(t *testing.T) {
	background := regexp.MustCompile(`context\.(Background|TODO)\(\)`)
	sleep := regexp.MustCompile(`time\.Sleep\(`)
	shell := regexp.MustCompile(`"(/bin/)?(sh|bash)", *"-c"`)
	for _, s := range sources(t) {
		test := strings.HasSuffix(s.path, "_test.go") || strings.HasSuffix(s.pkg, "test") || strings.HasPrefix(s.pkg, "test")
		main := s.pkg == "cmd/slipway" || s.pkg == "internal/app"
		if !test && !main && background.MatchString(s.text) {
			t.Errorf("%s makes its own context: take it from the caller", s.path)
		}
		if sleep.MatchString(s.text) && !strings.HasSuffix(s.pkg, "archtest") {
			t.Errorf("%s sleeps: watch an event, or wait with a timer and a context", s.path)
		}
		if !test && shell.MatchString(s.text) && !strings.HasPrefix(s.pkg, "internal/host") && s.pkg != "internal/sandbox" {
			t.Errorf("%s starts a shell: pass argv", s.path)
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s has an init function: wire it in internal/app", s.path)
			}
		}
		if lines := strings.Count(s.text, "\n"); lines > 600 && !strings.HasPrefix(filepath.Base(s.path), "zz_") && !test {
			t.Errorf("%s has %d lines: is it still one idea? 600 is the limit", s.path, lines)
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	said := map[string]int{}
	for _, s := range sources(t) {
		if strings.HasSuffix(s.file.Name.Name, "_test") {
			continue
		}
		if _, known := said[s.pkg]; !known {
			said[s.pkg] = 0
		}
		if s.file.Doc != nil && len(strings.Fields(s.file.Doc.Text())) >= 12 {
			said[s.pkg]++
		}
	}
	for pkg, n := range said {
		if n != 1 {
			t.Errorf("package %s has %d package comments: one says what it owns and what it must never do", pkg, n)
		}
	}
}

func TestNoDrawers(t *testing.T) {
	for _, s := range sources(t) {
		for part := range strings.SplitSeq(s.pkg, "/") {
			if slices.Contains([]string{"pkg", "util", "utils", "common", "helper", "helpers", "manager", "base", "misc"}, part) {
				t.Errorf("%s: a folder named %s says nothing about what is in it", s.path, part)
			}
		}
	}
}

// TestExceptionsAreUsed keeps the list from outliving its reasons.
func TestExceptionsAreUsed(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t) {
		for _, i := range s.file.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			to, ours := strings.CutPrefix(path, module+"/")
			if !ours {
				continue
			}
			for pair := range exceptions() {
				a, b, _ := strings.Cut(pair, " ")
				if matches(s.pkg, a) && matches(to, b) {
					used[pair] = true
				}
			}
		}
	}
	for pair, why := range exceptions() {
		if !used[pair] {
			t.Errorf("exception %q (%s) is not needed any more: delete it", pair, why)
		}
	}
}
