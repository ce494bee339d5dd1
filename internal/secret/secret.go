// Package secret owns the values that must never be printed: it takes them out of text, and says which are too weak.
// It must never store a value anywhere but in memory, and never print one.
package secret

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Mask stands where a secret was.
const Mask = "[redacted]"

const (
	// wide and narrow are how many bytes of the text are looked up at each place, for long forms and for short ones.
	wide, narrow = 8, 4
	// keptDropped is how many owners stay known after Drop: text about them may still be under way.
	keptDropped = 256
)

// Set is a set of values that must never be printed. It keeps no value, only digests of it. The zero Set is empty
// and ready; it is safe for concurrent use.
type Set struct {
	outer *Set
	// size is how many forms are known, so that an empty Set costs nothing.
	size atomic.Int64

	mu   sync.RWMutex
	seed maphash.Seed
	// long and short hold the forms by the bytes in their middle: keys of one kind all begin alike.
	long  map[uint64][]place
	short map[uint32][]place
	// owners holds what Keep was given, dropped those of them that are about to be forgotten, the oldest first.
	owners  map[string]*owned
	dropped []string
}

// place is one form of a value, found by its anchor.
type place struct {
	digest         uint64
	length, offset int32
	refs           int32
}

type owned struct {
	version string
	anchors []anchored
}

// anchored is a form as an owner remembers it: enough to take it away again.
type anchored struct {
	anchor uint64
	digest uint64
	length int32
}

// Inner gives an empty set that also takes out what s knows. A nil s gives one that stands alone.
func (s *Set) Inner() *Set { return &Set{outer: s} }

// Add puts values into the set for good, with the forms in which they travel: base64, escaped, and for values of
// many lines each long line. Values under 4 bytes and certificates are ignored.
func (s *Set) Add(values ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, value := range values {
		for _, form := range formsOf(value) {
			s.insert(form)
		}
	}
}

// Keep is Add for the values of an owner: they replace those of an earlier version, and Drop lets them go. The same
// version again costs nothing.
func (s *Set) Keep(owner, version string, values ...[]byte) {
	if s.keeps(owner, version) {
		return
	}
	forms := formsOf(values...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owners == nil {
		s.owners = map[string]*owned{}
	}
	old := s.owners[owner]
	next := &owned{version: version, anchors: make([]anchored, 0, len(forms))}
	for _, form := range forms {
		next.anchors = append(next.anchors, s.insert(form))
	}
	if old != nil {
		s.remove(old)
	}
	s.owners[owner] = next
	s.dropped = slices.DeleteFunc(s.dropped, func(name string) bool { return name == owner })
}

func (s *Set) keeps(owner, version string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	old := s.owners[owner]
	return old != nil && old.version == version && !slices.Contains(s.dropped, owner)
}

// Drop lets the values of an owner go. The last 256 owners stay known, since text about them may still be written.
func (s *Set) Drop(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owners[owner] == nil || slices.Contains(s.dropped, owner) {
		return
	}
	s.dropped = append(s.dropped, owner)
	if len(s.dropped) > keptDropped {
		s.remove(s.owners[s.dropped[0]])
		delete(s.owners, s.dropped[0])
		s.dropped = slices.Delete(s.dropped, 0, 1)
	}
}

func (s *Set) insert(form string) anchored {
	if s.long == nil {
		s.long, s.short, s.seed = map[uint64][]place{}, map[uint32][]place{}, maphash.MakeSeed()
	}
	a := anchored{digest: maphash.String(s.seed, form), length: int32(len(form))}
	offset := len(form) / 2
	if len(form) < wide {
		offset = 0
		a.anchor = uint64(shortAt(form, 0))
		s.short[uint32(a.anchor)] = counted(s.short[uint32(a.anchor)], a, offset, &s.size)
		return a
	}
	offset = min(offset, len(form)-wide)
	a.anchor = longAt(form, offset)
	s.long[a.anchor] = counted(s.long[a.anchor], a, offset, &s.size)
	return a
}

// counted gives the list with one more use of the form.
func counted(list []place, a anchored, offset int, size *atomic.Int64) []place {
	for i := range list {
		if list[i].digest == a.digest && list[i].length == a.length {
			list[i].refs++
			return list
		}
	}
	size.Add(1)
	return append(list, place{digest: a.digest, length: a.length, offset: int32(offset), refs: 1})
}

func (s *Set) remove(o *owned) {
	for _, a := range o.anchors {
		if a.length < wide {
			removeFrom(s.short, uint32(a.anchor), a, &s.size)
		} else {
			removeFrom(s.long, a.anchor, a, &s.size)
		}
	}
}

func removeFrom[K comparable](table map[K][]place, key K, a anchored, size *atomic.Int64) {
	left := slices.DeleteFunc(table[key], func(p place) bool {
		return p.digest == a.digest && p.length == a.length && p.refs == 1
	})
	switch {
	case len(left) == 0:
		delete(table, key)
		size.Add(-1)
		return
	case len(left) < len(table[key]):
		size.Add(-1)
	default:
		for i := range left {
			if left[i].digest == a.digest && left[i].length == a.length {
				left[i].refs--
			}
		}
	}
	table[key] = left
}

func longAt(text string, at int) uint64 {
	return binary.LittleEndian.Uint64([]byte(text[at : at+wide]))
}

func shortAt(text string, at int) uint32 {
	return binary.LittleEndian.Uint32([]byte(text[at : at+narrow]))
}

// Redact gives text with every known value replaced by Mask.
func (s *Set) Redact(text string) string {
	if s.outer != nil {
		text = s.outer.Redact(text)
	}
	if s.size.Load() == 0 || len(text) < narrow {
		return text
	}
	found := s.find(text)
	if len(found) == 0 {
		return text
	}
	slices.SortFunc(found, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out strings.Builder
	end := 0
	for i, f := range found {
		if i == 0 || f.from >= end {
			out.WriteString(text[end:f.from])
			out.WriteString(Mask)
		}
		end = max(end, f.to)
	}
	out.WriteString(text[end:])
	return out.String()
}

type span struct{ from, to int }

// find gives where values are in text, in no order; they may overlap.
func (s *Set) find(text string) []span {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []span
	match := func(list []place, at int) {
		for _, p := range list {
			from := at - int(p.offset)
			to := from + int(p.length)
			if from < 0 || to > len(text) || maphash.String(s.seed, text[from:to]) != p.digest {
				continue
			}
			// A short value is masked as a word only: "root" must not destroy "rooted".
			if p.length < wide && (isWord(text, from-1) || isWord(text, to)) {
				continue
			}
			found = append(found, span{from, to})
		}
	}
	if len(s.long) > 0 {
		for at := 0; at+wide <= len(text); at++ {
			if list, ok := s.long[longAt(text, at)]; ok {
				match(list, at)
			}
		}
	}
	if len(s.short) > 0 {
		for at := 0; at+narrow <= len(text); at++ {
			if list, ok := s.short[shortAt(text, at)]; ok {
				match(list, at)
			}
		}
	}
	return found
}

func isWord(text string, at int) bool {
	if at < 0 || at >= len(text) {
		return false
	}
	c := text[at]
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
