package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Query chooses lines. An empty member chooses all.
type Query struct {
	// Since and Until bound the time: from Since on, and before Until.
	Since, Until time.Time
	// Actor, Project, Verb and Result must be equal.
	Actor, Project, Verb string
	Result               Result
	// People leaves out what the server does by itself.
	People bool
	// Object must be a part of the object, Contains a part of any text of the event; case does not matter.
	Object, Contains string
	// Oldest gives the oldest line first; otherwise the newest comes first.
	Oldest bool
	// After goes on behind the line of that number, in the order that is given.
	After uint64
	// Limit is how many lines are given at most; 0 means all.
	Limit int
}

// Search calls see with each line that q chooses, as it is in the log, with its line end; it is see's for that call
// alone. It gives the number to go on
// behind, 0 when nothing is left. When ctx ends it gives the number to go on behind and the context's error.
func (l *Log) Search(ctx context.Context, q Query, see func(line []byte) error) (uint64, error) {
	l.reading.RLock()
	defer l.reading.RUnlock()
	found := l.snapshot()
	needles := q.needles()
	next, given := q.After, 0
	for _, i := range q.order(found) {
		content, err := found[i].read(l.Dir)
		if err != nil {
			return next, fmt.Errorf("cannot read the audit log: %w", err)
		}
		lines := backwards(content)
		if q.Oldest {
			lines = forwards(content)
		}
		for line := range lines {
			c, ok := parse(line)
			if !ok || q.seen(c.seq) {
				continue
			}
			if ctx.Err() != nil {
				return next, ctx.Err()
			}
			if q.Limit > 0 && given == q.Limit {
				return next, nil
			}
			next = c.seq
			if !q.chooses(c, needles) {
				continue
			}
			given++
			if err := see(line); err != nil {
				return next, err
			}
		}
	}
	return 0, nil
}

// snapshot gives the segments as far as they are written.
func (l *Log) snapshot() []segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.segments)
}

// order gives the indexes of the segments that can hold lines of the query, in its order.
func (q Query) order(found []segment) []int {
	// Lines that are written at the same moment may be a little out of order.
	const slack = time.Minute
	var chosen []int
	for i, s := range found {
		last := i == len(found)-1
		switch {
		case !q.Until.IsZero() && s.start.After(q.Until.Add(slack)):
		case !q.Since.IsZero() && !last && found[i+1].start.Before(q.Since.Add(-slack)):
		case q.After > 0 && !q.Oldest && s.first >= q.After:
		case q.After > 0 && q.Oldest && !last && found[i+1].first <= q.After+1:
		default:
			chosen = append(chosen, i)
		}
	}
	if !q.Oldest {
		slices.Reverse(chosen)
	}
	return chosen
}

func (q Query) seen(seq uint64) bool {
	return q.After > 0 && (q.Oldest && seq <= q.After || !q.Oldest && seq >= q.After)
}

// needles gives bytes that each chosen line holds, so that most others need not be decoded.
func (q Query) needles() [][]byte {
	var needles [][]byte
	for _, n := range []struct{ name, value string }{{"actor", q.Actor}, {"project", q.Project}, {"verb", q.Verb}, {"result", string(q.Result)}} {
		if n.value == "" {
			continue
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, `"%s":`, n.name)
		text := json.NewEncoder(&b)
		text.SetEscapeHTML(false)
		if err := text.Encode(n.value); err != nil {
			continue // A text always encodes; without a needle the search is only slower.
		}
		needles = append(needles, bytes.TrimSpace(b.Bytes()))
	}
	return needles
}

func (q Query) chooses(c cut, needles [][]byte) bool {
	for _, n := range needles {
		if !bytes.Contains(c.event, n) {
			return false
		}
	}
	e, err := c.decode()
	return err == nil && q.matches(e)
}

func (q Query) matches(e Event) bool {
	equal := func(want, is string) bool { return want == "" || want == is }
	return (q.Since.IsZero() || !e.Time.Before(q.Since)) && (q.Until.IsZero() || e.Time.Before(q.Until)) &&
		equal(q.Actor, e.Actor) && equal(q.Project, e.Project) && equal(q.Verb, e.Verb) && equal(string(q.Result), string(e.Result)) &&
		!(q.People && e.From == "" && strings.HasPrefix(e.Actor, "system:")) && holds(e.Object, q.Object) && q.contained(e)
}

func (q Query) contained(e Event) bool {
	texts := []string{e.Actor, e.Via, e.From, e.Verb, e.Object, e.Project, e.Reason, string(e.Result)}
	for key, value := range e.Detail {
		texts = append(texts, key, value)
	}
	return slices.ContainsFunc(texts, func(text string) bool { return holds(text, q.Contains) })
}

func holds(text, part string) bool {
	return part == "" || strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

func forwards(content []byte) func(func([]byte) bool) { return bytes.Lines(content) }

// Export writes every line of the log to w, oldest first, with what Verify needs. Lines that come meanwhile may be
// missing at the end. No segment is removed while it runs.
func (l *Log) Export(ctx context.Context, w io.Writer) error {
	l.reading.RLock()
	defer l.reading.RUnlock()
	for _, s := range l.snapshot() {
		if err := s.export(ctx, l.Dir, w); err != nil {
			return fmt.Errorf("cannot export the audit log: %w", err)
		}
	}
	return nil
}

func (s segment) export(ctx context.Context, dir string, w io.Writer) error {
	file, err := os.Open(filepath.Join(dir, s.name()))
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewReaderSize(io.LimitReader(file, s.size), 1<<16)
	for ctx.Err() == nil {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, ok := parse(line); !ok {
			continue // A torn line is told of by the line after it.
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return ctx.Err()
}
