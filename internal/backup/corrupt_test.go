package backup

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// corruption is one way to spoil a backup.
type corruption struct {
	reason string
	file   []byte
}

// corruptions gives 1,000 of them, all different from both files.
func corruptions(a, b []byte, r *rand.Rand) []corruption {
	all := []corruption{{"empty", nil}, {"twice", slices.Concat(a, a)}, {"behind another", slices.Concat(b, a)}}
	plain := bytes.IndexByte(a, '\n') + 1
	for n := range plain {
		all = append(all, corruption{"cut off in the plain line at " + strconv.Itoa(n), a[:n]})
	}
	all = append(all, corruption{"the last byte is missing", a[:len(a)-1]}, corruption{"the plain line of another", slices.Concat(b[:bytes.IndexByte(b, '\n')+1], a[plain:])})
	add := func(reason string, at int, file []byte) {
		if !bytes.Equal(file, a) && !bytes.Equal(file, b) {
			all = append(all, corruption{reason + " at " + strconv.Itoa(at), file})
		}
	}
	for len(all) < 1000 {
		// One in four strikes where the structure is: the plain line and age's header.
		at := r.IntN(len(a))
		if r.IntN(4) == 0 {
			at = r.IntN(plain + 2000)
		}
		length := min(1+r.IntN(300), len(a)-at)
		spoilt := bytes.Clone(a)
		switch r.IntN(7) {
		case 0, 1, 2:
			spoilt[at] ^= 1 << r.IntN(8)
			add("a flipped bit", at, spoilt)
		case 3:
			add("cut off", at, spoilt[:at])
		case 4:
			add("appended bytes", len(a), append(spoilt, noise(uint64(at), length)...))
		case 5:
			clear(spoilt[at : at+length])
			add("zeros", at, spoilt)
		case 6:
			add("removed bytes", at, slices.Delete(spoilt, at, at+length))
		}
		if other := min(at+length, len(b)); at < other {
			add("bytes of another backup", at, slices.Concat(a[:at], b[at:other], a[other:]))
		}
	}
	return all
}

// TestEveryCorruptionIsCaught: 1,000 spoilt files, and not one is taken for a backup.
func TestEveryCorruptionIsCaught(t *testing.T) {
	key := newKey(t)
	// Of one length, so that bytes of one stand where those of the other do.
	a, _ := writeTo(t, contents("one", etcdSnapshot(t, "one")), key)
	b, _ := writeTo(t, contents("two", etcdSnapshot(t, "two")), key)
	for _, file := range [][]byte{a, b} {
		if _, err := Verify(t.Context(), bytes.NewReader(file), key); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	directory, tried := t.TempDir(), 0
	for i, c := range corruptions(a, b, rand.New(rand.NewPCG(seed, 0))) {
		tried++
		if m, err := Verify(t.Context(), bytes.NewReader(c.file), key); err == nil || len(m.Parts) > 0 {
			t.Errorf("seed %d: %s is taken for a backup", seed, c.reason)
		}
		if i%10 == 0 {
			if o, err := Open(t.Context(), bytes.NewReader(c.file), directory, key); err == nil {
				t.Errorf("seed %d: %s is opened: %v", seed, c.reason, o.Close())
			}
		}
	}
	if tried < 1000 {
		t.Errorf("only %d were tried", tried)
	}
	empty(t, directory)
	if _, err := Verify(t.Context(), bytes.NewReader(a), newKey(t)); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("another key: %v", err)
	}
	if _, err := Verify(t.Context(), bytes.NewReader(a)); err == nil {
		t.Error("no key at all opens it")
	}
}

// forge seals parts as Write does, whatever they are: what somebody who has the recipient could do.
func forge(t *testing.T, header string, key *age.HybridIdentity, parts ...[2]string) []byte {
	t.Helper()
	var file bytes.Buffer
	file.WriteString(header)
	w, err := age.Encrypt(&file, key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if _, err := writePart(w, p[0], strings.NewReader(p[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// taken takes a backup apart.
func taken(t *testing.T, file []byte, key *age.HybridIdentity) (string, [][2]string) {
	t.Helper()
	at := bytes.IndexByte(file, '\n') + 1
	open, err := age.Decrypt(bytes.NewReader(file[at:]), key)
	if err != nil {
		t.Fatal(err)
	}
	var parts [][2]string
	for _, name := range []string{partDescription, partKeys, partSnapshot, partManifest} {
		p, err := nextPart(open, name)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, [2]string{name, string(content)})
	}
	return string(file[:at]), parts
}

// TestPartsBelongTogether: parts of two good backups, sealed again with the right key, are no backup.
func TestPartsBelongTogether(t *testing.T) {
	key := newKey(t)
	fileA, _ := writeTo(t, contents("one", plainSnapshot(3)), key)
	fileB, _ := writeTo(t, contents("two", plainSnapshot(4)), key)
	headerA, a := taken(t, fileA, key)
	headerB, b := taken(t, fileB, key)
	if _, err := Verify(t.Context(), bytes.NewReader(forge(t, headerA, key, a...)), key); err != nil {
		t.Fatalf("taken apart and put together: %v; this test proves nothing", err)
	}
	replaced := func(old, new string, i int) [][2]string {
		parts := slices.Clone(a)
		parts[i][1] = strings.Replace(parts[i][1], old, new, 1)
		if parts[i] == a[i] {
			t.Fatalf("nothing was replaced by %q", new)
		}
		return parts
	}
	for reason, file := range map[string][]byte{
		"the plain line of another":         forge(t, headerB, key, a...),
		"a plain line of another format":    forge(t, strings.Replace(headerA, "/v1", "/v2", 1), key, a...),
		"a plain line that says more":       forge(t, strings.Replace(headerA, "{", `{"x":1,`, 1), key, a...),
		"the description of another":        forge(t, headerA, key, b[0], a[1], a[2], a[3]),
		"the keys of another":               forge(t, headerA, key, a[0], b[1], a[2], a[3]),
		"the snapshot of another":           forge(t, headerA, key, a[0], a[1], b[2], a[3]),
		"the manifest of another":           forge(t, headerA, key, a[0], a[1], a[2], b[3]),
		"another order":                     forge(t, headerA, key, a[1], a[0], a[2], a[3]),
		"no keys":                           forge(t, headerA, key, a[0], a[2], a[3]),
		"no manifest":                       forge(t, headerA, key, a[:3]...),
		"a part twice":                      forge(t, headerA, key, a[0], a[0], a[1], a[2], a[3]),
		"a part behind the manifest":        forge(t, headerA, key, append(slices.Clone(a), a[0])...),
		"a manifest of another format":      forge(t, headerA, key, replaced("backup/v1", "backup/v9", 3)...),
		"a manifest that says more":         forge(t, headerA, key, replaced("{", `{"more":1,`, 3)...),
		"a manifest of another cluster":     forge(t, headerA, key, replaced("uid-one", "uid-two", 3)...),
		"a manifest of another time":        forge(t, headerA, key, replaced("2026-05-04T02", "2026-05-04T03", 3)...),
		"a description that nobody knows":   forge(t, headerA, key, replaced("{", `{"more":1,`, 0)...),
		"something behind the JSON of keys": forge(t, headerA, key, replaced("}", "}{}", 1)...),
	} {
		if _, err := Verify(t.Context(), bytes.NewReader(file), key); err == nil {
			t.Errorf("%s: it is taken for a backup", reason)
		}
	}
}
