package audit

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxProblems is how many problems a Report names.
const maxProblems = 20

// Check says what to verify against.
type Check struct {
	// Key is that of the installation; without it nobody can tell a chain that someone made anew from the server's own,
	// unless Head is known.
	Key []byte
	// Head was noted down earlier; the log must still hold it.
	Head *Head
}

// Report is what verifying found.
type Report struct {
	// Lines counts the lines; First and Last are the ends of the chain.
	Lines uint64 `json:"lines"`
	First Head   `json:"first"`
	Last  Head   `json:"last"`
	// Removed counts the lines before First that retention removed, as the log itself says.
	Removed uint64 `json:"removed"`
	// Torn counts places where the machine or the server ended in the middle of a line; a line tells of each.
	Torn int `json:"torn"`
	// Unfinished counts bytes behind the last line: the server is writing, or was ended while it did.
	Unfinished int `json:"unfinished"`
	// Signed says that Check.Key made all of it.
	Signed bool `json:"signed"`
	// Problems says in words what is wrong, 20 at most; Count is how many there are.
	Problems []string `json:"problems,omitempty"`
	Count    int      `json:"count"`
}

// Err gives an error when there is a problem.
func (r Report) Err() error {
	if r.Count == 0 {
		return nil
	}
	return fmt.Errorf("the audit log was changed or is damaged: %d problems", r.Count)
}

// Verify reads the lines of an export and reports what is wrong. An error means that they cannot be read at all.
func Verify(r io.Reader, check Check) (Report, error) {
	v := newVerifier(check)
	if err := v.read(r); err != nil {
		return Report{}, fmt.Errorf("cannot verify the audit log: %w", err)
	}
	return v.finish(), nil
}

// VerifyDir is Verify for a directory of segments; a server may be writing there.
func VerifyDir(dir string, check Check) (Report, error) {
	found, err := segments(dir)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("there is none in %s", dir)
	}
	v := newVerifier(check)
	for _, s := range found {
		if err != nil {
			break
		}
		err = v.readFile(filepath.Join(dir, s.name()))
	}
	if err != nil {
		return Report{}, fmt.Errorf("cannot verify the audit log: %w", err)
	}
	return v.finish(), nil
}

type verifier struct {
	Check
	report Report
	// last is the line to go on from; good is the last whole one, from which a repair goes on.
	last, good Head
	// odd holds what is no whole line, until a line tells of it; strange says that some of it was not told of before.
	odd     []byte
	strange bool
	// anchors are the hashes up to which retention removed lines.
	anchors map[string]bool
	// begins is what the first line follows; empty before there is one.
	begins string
	// unsigned is the first line of a run that the key did not sign.
	unsigned, unsignedTo uint64
	headSeen             bool
}

func newVerifier(check Check) *verifier {
	zero := Head{Hash: strings.Repeat("0", hexSize)}
	return &verifier{Check: check, last: zero, good: zero, anchors: map[string]bool{zero.Hash: true}}
}

func (v *verifier) readFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return v.read(file)
}

func (v *verifier) read(r io.Reader) error {
	lines := bufio.NewReaderSize(r, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			v.line(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (v *verifier) line(line []byte) {
	c, ok := parse(line)
	switch {
	case !ok:
		v.odd, v.strange = append(v.odd, line...), true
	case !c.whole():
		v.problem("line %d was changed: its hash is not that of its content", c.seq)
		v.odd = append(v.odd, line...)
		v.begin(c)
		// What follows is judged by what the line says of itself, so that one change is one problem.
		v.last = c.head()
	default:
		v.whole(c)
	}
}

func (v *verifier) whole(c cut) {
	e, err := c.decode()
	if err != nil {
		v.problem("%v", err)
	}
	if own := e.Actor == Server && e.Object == ownObject; own && e.Verb == verbRepair {
		if e.Reason == reasonTorn {
			v.report.Torn++
		}
		if v.told(e) {
			v.last, v.strange = v.good, false
		}
	} else if own && e.Verb == verbRemove {
		v.anchors[e.Detail["hash"]] = true
	}
	if v.strange {
		v.problem("before line %d there are %d bytes that are no lines of the log", c.seq, len(v.odd))
	}
	v.odd, v.strange = nil, false

	if !v.begin(c) {
		v.follows(c)
	}
	v.signature(c)
	if v.Head != nil && v.Head.Seq == c.seq {
		v.headSeen = true
		if v.Head.Hash != c.head().Hash {
			v.problem("line %d is not the one that was noted down", c.seq)
		}
	}
	v.report.Lines++
	v.last, v.good, v.report.Last = c.head(), c.head(), c.head()
}

// told says that a line tells of the odd bytes before it. The line end may have come after the telling.
func (v *verifier) told(e Event) bool {
	for _, end := range []int{len(v.odd), len(v.odd) - 1} {
		if end <= 0 {
			continue
		}
		digest := sha256.Sum256(v.odd[:end])
		if e.Detail["sha256"] == hex.EncodeToString(digest[:]) && e.Detail["bytes"] == strconv.Itoa(end) {
			return true
		}
	}
	return false
}

// begin takes the first line, and says whether it did.
func (v *verifier) begin(c cut) bool {
	if v.begins != "" {
		return false
	}
	v.report.First, v.begins = c.head(), hex.EncodeToString(c.prev[:])
	return true
}

func (v *verifier) follows(c cut) {
	switch last := v.last; {
	case c.seq > last.Seq+1:
		v.problem("between lines %d and %d there are %d lines missing", last.Seq, c.seq, c.seq-last.Seq-1)
	case c.seq <= last.Seq:
		v.problem("line %d stands behind line %d", c.seq, last.Seq)
	case hex.EncodeToString(c.prev[:]) != last.Hash:
		v.problem("line %d does not follow line %d: one of them was put in later", c.seq, last.Seq)
	}
}

func (v *verifier) signature(c cut) {
	if v.Key == nil || c.signed(v.Key) {
		v.endUnsigned()
		return
	}
	if v.unsigned == 0 {
		v.unsigned = c.seq
	}
	v.unsignedTo = c.seq
}

func (v *verifier) endUnsigned() {
	if v.unsigned != 0 {
		v.problem("lines %d to %d were not written by the server that has this key", v.unsigned, v.unsignedTo)
	}
	v.unsigned = 0
}

func (v *verifier) problem(format string, values ...any) {
	v.report.Count++
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, fmt.Sprintf(format, values...))
	}
}

func (v *verifier) finish() Report {
	v.endUnsigned()
	if v.strange {
		v.report.Unfinished = len(v.odd)
	}
	first, last := v.report.First.Seq, v.report.Last.Seq
	switch {
	case v.report.Lines == 0:
		v.problem("there is no line")
	case !v.anchors[v.begins] || (first == 1) != (v.begins == strings.Repeat("0", hexSize)):
		v.problem("the beginning is missing: no line says that the lines before line %d were removed", first)
	default:
		v.report.Removed = first - 1
	}
	if v.Head != nil && !v.headSeen {
		if v.Head.Seq > last {
			v.problem("the end is missing: line %d was noted down, and the last is line %d", v.Head.Seq, last)
		} else {
			v.problem("line %d was noted down and is not here; note down a newer one from time to time", v.Head.Seq)
		}
	}
	v.report.Signed = v.Key != nil && v.report.Count == 0
	return v.report
}
