package sandbox

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/sandbox"
)

func TestParseBytes(t *testing.T) {
	cases := map[string]struct {
		reason    string
		text      string
		want      int64
		wantError bool
	}{
		"binary":   {reason: "as Kubernetes writes it", text: "20Gi", want: 20 << 30},
		"plain":    {reason: "bytes need no unit", text: "1073741824", want: 1 << 30},
		"zero":     {reason: "zero would silently mean the default", text: "0", wantError: true},
		"negative": {reason: "no such size", text: "-1Gi", wantError: true},
		"words":    {reason: "no number", text: "big", wantError: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := parseBytes("--disk", tc.text)
			if got != tc.want || (err != nil) != tc.wantError {
				t.Errorf("%s: got %d, %v", tc.reason, got, err)
			}
		})
	}
}

func TestPrintHosts(t *testing.T) {
	hosts := []sandbox.Host{
		{Name: "sandbox-1", Address: "10.130.0.11", Port: 22, User: "root", Memory: 4 << 30, Disk: 20 << 30, Running: true},
		{Name: "sandbox-2", Address: "10.130.0.12", Port: 22, User: "root", Memory: 4 << 30, Disk: 20 << 30},
	}
	want := `NAME        STATE     ADDRESS       PORT   USER   MEMORY   DISK
sandbox-1   running   10.130.0.11   22     root   4Gi      20Gi
sandbox-2   stopped   10.130.0.12   22     root   4Gi      20Gi
`
	var out bytes.Buffer
	if err := printHosts(&out, "table", hosts); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	out.Reset()
	if err := printHosts(&out, "json", nil); err != nil {
		t.Fatal(err)
	}
	if out.String() != "[]\n" {
		t.Errorf("no hosts must be an empty list for programs, got %q", out.String())
	}
}

func TestCommand(t *testing.T) {
	register := func(context.Context, []sandbox.Host, []byte) error { return nil }
	cases := map[string]struct {
		reason   string
		register Register
		args     []string
		want     string
		fails    bool
	}{
		"help tells":         {reason: "who reads the help must know it is no boundary", args: []string{"up", "--help"}, want: notice},
		"register offered":   {reason: "with an API there is something to register in", register: register, args: []string{"up", "--help"}, want: "--register"},
		"register missing":   {reason: "without one the flag must not pretend", args: []string{"up", "--register"}, want: "unknown flag", fails: true},
		"empty list":         {reason: "no sandbox is no error", args: []string{"list", "--dir", "/nowhere/at/all"}, want: "NAME"},
		"no place":           {reason: "a directory is needed", args: []string{"list", "--data-dir", ""}, want: "set --data-dir or --dir", fails: true},
		"unknown output":     {reason: "only two formats exist", args: []string{"list", "-o", "xml"}, want: "-o table or -o json", fails: true},
		"power needs a name": {reason: "never all hosts by mistake", args: []string{"stop"}, want: "accepts 1 arg", fails: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			cmd := New(tc.register, "/nowhere/data")
			var out bytes.Buffer
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			cmd.SetArgs(tc.args)
			err := cmd.ExecuteContext(t.Context())
			if (err != nil) != tc.fails || !strings.Contains(out.String(), tc.want) {
				t.Errorf("%s: error %v, output:\n%s", tc.reason, err, out.String())
			}
		})
	}
}
