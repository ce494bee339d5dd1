package backup

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Manual stands for the schedule in the names of backups that people make. No schedule may have this name.
const Manual = "manual"

// codeLength is the length of the random end of a name.
const codeLength = 6

// NewName gives a new name CLUSTER-SCHEDULE-CODE for a backup; an empty schedule means that a person makes it. The code
// is six random letters and digits.
func NewName(cluster, schedule string) string {
	if schedule == "" {
		schedule = Manual
	}
	return cluster + "-" + schedule + "-" + strings.ToLower(rand.Text()[:codeLength])
}

// maxName bounds a name, in bytes.
const maxName = 128

// CheckName refuses what is no name of a backup: 1 to 128 lower-case letters, digits and '-', no '-' at either end. Such
// a name cannot leave a directory or a prefix.
func CheckName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("cannot accept backup name %.60q: it must have 1 to %d characters", name, maxName)
	}
	other := func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' }
	if strings.ContainsFunc(name, other) || strings.Trim(name, "-") != name {
		return fmt.Errorf("cannot accept backup name %q: only lower-case letters, digits and '-' inside", name)
	}
	return nil
}

// Kept is one completed backup of a schedule.
type Kept struct {
	Name    string
	TakenAt time.Time
}

// Surplus names the backups that must go, the oldest first, so that keep are left. Give it the completed backups of one
// schedule alone. A keep below 1 is an error: it would leave nothing.
func Surplus(backups []Kept, keep int) ([]string, error) {
	if keep < 1 {
		return nil, errors.New("cannot keep fewer than one backup")
	}
	oldest := slices.SortedFunc(slices.Values(backups), func(a, b Kept) int {
		return cmp.Or(a.TakenAt.Compare(b.TakenAt), cmp.Compare(a.Name, b.Name))
	})
	var names []string
	for _, b := range oldest[:max(0, len(oldest)-keep)] {
		names = append(names, b.Name)
	}
	return names, nil
}
