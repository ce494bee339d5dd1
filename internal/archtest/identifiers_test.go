package archtest

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// identifiers finds in our source what is stored or what others rely on, and how docs/reference/identifiers.txt names it.
func identifiers() map[*regexp.Regexp]string {
	return map[*regexp.Regexp]string{
		regexp.MustCompile(`"(slipway\.dev/[a-z0-9-]+)"`):                   "",
		regexp.MustCompile(`\) ID\(\) step\.ID +\{ return "([^"]+)" \}`):    "step ",
		regexp.MustCompile(`(?m)^\tVerb[A-Z][A-Za-z]* +Verb += "([a-z]+)"`): "verb ",
		regexp.MustCompile(`(?m)^\tSetting[A-Z][A-Za-z]* += "([a-z]+)"`):    "setting ",
	}
}

// TestIdentifiers: what is stored, or what others rely on, is on the page of identifiers, where a change of it is seen.
func TestIdentifiers(t *testing.T) {
	content, err := os.ReadFile("../../docs/reference/identifiers.txt")
	if err != nil {
		t.Fatal(err)
	}
	page := map[string]bool{}
	for line := range strings.Lines(string(content)) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		names, _, _ := strings.Cut(rest, "  ")
		for name := range strings.SplitSeq(names, ", ") {
			page[kind+" "+name], page[name] = true, true
		}
	}
	found := 0
	for _, f := range sources(t) {
		if strings.HasSuffix(f.path, "_test.go") || !strings.HasPrefix(f.path, "internal/") && !strings.HasPrefix(f.path, "api/") {
			continue
		}
		for pattern, kind := range identifiers() {
			for _, match := range pattern.FindAllStringSubmatch(f.text, -1) {
				found++
				if name := kind + match[1]; match[1] != module && !page[name] {
					t.Errorf("%s: docs/reference/identifiers.txt has no %q", f.path, name)
				}
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d identifiers were found: the patterns do not match our source any more", found)
	}
}
