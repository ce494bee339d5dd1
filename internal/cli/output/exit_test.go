package output

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestExitCodesPage: scripts are written by the page.
func TestExitCodesPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/reference/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, row := range ExitCodes() {
		want = append(want, fmt.Sprintf("| %d | %s |", row.Code, row.Meaning))
	}
	for _, row := range regexp.MustCompile(`(?m)^\| \d+ \|.*$`).FindAll(page, -1) {
		got = append(got, string(row))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/reference/exit-codes.md is not the table (-want +got):\n%s", diff)
	}
}
