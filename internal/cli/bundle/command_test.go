package bundle

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/bundle/bundletest"
)

func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	command := NewCommand()
	var out bytes.Buffer
	command.SetOut(&out)
	command.SetErr(&out)
	command.SilenceUsage, command.SilenceErrors = true, true
	command.SetArgs(args)
	err := command.ExecuteContext(t.Context())
	return out.String(), err
}

func TestCommands(t *testing.T) {
	data, other := t.TempDir(), filepath.Join(t.TempDir(), "store")
	store, err := bundle.Open(filepath.Join(data, "bundles"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundletest.Write(t.Context(), store, bundletest.Options{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bundle.tar")
	steps := []struct {
		reason string
		args   []string
		want   string
		fails  bool
	}{
		{reason: "list shows a data directory's bundles", args: []string{"list", "--data-dir", data}, want: "v1.36.3"},
		{reason: "wide adds the digest", args: []string{"list", "--data-dir", data, "-o", "wide"}, want: "sha256:"},
		{reason: "names are for scripts", args: []string{"list", "--data-dir", data, "-o", "name"}, want: "v1.36.3\n"},
		{reason: "yaml is for programs", args: []string{"list", "--data-dir", data, "-o", "yaml"}, want: "name: v1.36.3"},
		{reason: "formats are known", args: []string{"list", "--data-dir", data, "-o", "xml"}, want: "json", fails: true},
		{reason: "verify without names takes all", args: []string{"verify", "--data-dir", data}, want: "complete and undamaged"},
		{reason: "verify names what is not there", args: []string{"verify", "v9", "--data-dir", data}, want: "v9", fails: true},
		{reason: "export writes a file", args: []string{"export", "v1.36.3", file, "--data-dir", data}, want: file},
		{reason: "import reads it", args: []string{"import", file, "--store", other}, want: "bundle v1.36.3 imported"},
		{reason: "the imported bundle is whole", args: []string{"verify", "v1.36.3", "--store", other}, want: "undamaged"},
		{reason: "build needs a version", args: []string{"build", "--store", other}, want: "kubernetes", fails: true},
		{reason: "build knows its versions", args: []string{"build", "--kubernetes", "v0.1.0", "--store", other}, want: "v1.36.3", fails: true},
		{
			reason: "build knows what of a lock it may replace",
			args:   []string{"build", "--kubernetes", "v1.36.3", "--update-lock=some", "--store", other}, want: "machine or all", fails: true,
		},
	}
	for _, step := range steps {
		out, err := run(t, step.args...)
		if (err != nil) != step.fails {
			t.Fatalf("%s: error %v", step.reason, err)
		}
		if err != nil {
			out += err.Error()
		}
		if !strings.Contains(out, step.want) {
			t.Errorf("%s: %q lacks %q", step.reason, out, step.want)
		}
	}
	out, err := run(t, "list", "--store", other, "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 1 || rows[0].Components["etcd"] != "3.6.9" {
		t.Errorf("list -o json gives %s (%v)", out, err)
	}
}
