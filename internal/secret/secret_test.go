package secret_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"slipway.dev/slipway/internal/secret"
)

const password = "correct horse battery"

var key = "-----BEGIN KEY-----\nMIGHAgEAMBMGByqGSM49\nAgEGCCqGSM49AwEHBG0w\n-----END KEY-----\n"

func TestSet_Redact(t *testing.T) {
	var set secret.Set
	if got := set.Redact("nothing known: " + password); !strings.Contains(got, password) {
		t.Errorf("an empty set changed the text: %q", got)
	}
	set.Add([]byte(password), []byte(key), []byte("abc"), []byte("correct horse"), []byte(password))
	cases := map[string]struct {
		reason, text, want string
	}{
		"whole":   {"the value itself must go", "login with " + password + " failed", "login with [redacted] failed"},
		"part":    {"a shorter secret inside a longer one must not leave a tail", "<" + password + ">", "<[redacted]>"},
		"base64":  {"Secrets travel as base64", base64.StdEncoding.EncodeToString([]byte(password)), "[redacted]"},
		"line":    {"programs print single lines of a key", "bad line MIGHAgEAMBMGByqGSM49", "bad line [redacted]"},
		"heading": {"the heading of a PEM block is no secret", "-----BEGIN KEY-----", "-----BEGIN KEY-----"},
		"short":   {"masking three letters would destroy text", "abc", "abc"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := set.Redact(c.text); got != c.want {
				t.Errorf("Redact(%q) = %q, want %q: %s", c.text, got, c.want, c.reason)
			}
		})
	}
}

func TestSet_Writer(t *testing.T) {
	var set secret.Set
	set.Add([]byte(password))
	var out bytes.Buffer
	w := set.Writer(&out)
	for _, piece := range []string{"one correct ho", "rse battery\ntwo cor", "rect horse battery"} {
		if _, err := w.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "one [redacted]\ntwo [redacted]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSet_Handler(t *testing.T) {
	var set secret.Set
	set.Add([]byte(password))
	var out bytes.Buffer
	log := slog.New(set.Handler(slog.NewTextHandler(&out, nil)))
	log.With("with", password).WithGroup("g").Error("message "+password,
		"text", password, "error", errors.New("cannot use "+password), "raw", []byte(password), "number", 7,
		slog.Group("inner", "deep", password), "struct", struct{ P string }{password})
	if strings.Contains(out.String(), "horse") {
		t.Errorf("the secret is in the log: %s", out.String())
	}
	if got := strings.Count(out.String(), secret.Mask); got != 7 {
		t.Errorf("%d values masked, want 7: %s", got, out.String())
	}
	if !strings.Contains(out.String(), "g.number=7") {
		t.Errorf("harmless values changed: %s", out.String())
	}
}
