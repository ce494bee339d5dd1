// Package backuptest owns the conformance suite of backup.Store: what every place for backups must do.
// It must never know what a store is made of.
package backuptest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/backup"
)

// partSize is what a store in a bucket sends at once.
const partSize = 16 << 20

// Noise is size bytes that are the same for the same seed.
func Noise(seed uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	// It never fails.
	_, _ = r.Read(b)
	return b
}

// Names gives the names of what a store has listed.
func Names(objects []backup.Object) []string {
	var all []string
	for _, o := range objects {
		all = append(all, o.Name)
	}
	return all
}

// Run runs the suite. The store must be empty, and holds two backups in the end: demo-daily-small1 and demo-manual-exact1.
func Run(t *testing.T, s backup.Store) {
	t.Helper()
	ctx := t.Context()
	put := func(t *testing.T, name string, content []byte) {
		t.Helper()
		got, err := s.Put(ctx, name, bytes.NewReader(content))
		sum := sha256.Sum256(content)
		want := backup.Object{Name: name, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
		if err != nil || got != want {
			t.Fatalf("Put %s: %+v, %v; want %+v", name, got, err, want)
		}
	}
	kept := func(t *testing.T, want ...string) {
		t.Helper()
		found, err := s.List(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, Names(found)); diff != "" {
			t.Errorf("kept (-want +got):\n%s", diff)
		}
	}

	t.Run("a store that was just made passes its test, which leaves nothing", func(t *testing.T) {
		for range 2 {
			if err := s.Test(ctx); err != nil {
				t.Fatal(err)
			}
		}
		kept(t)
	})
	t.Run("what is put is got, also in several parts", func(t *testing.T) {
		for name, size := range map[string]int{"demo-daily-small1": 1, "demo-daily-large1": 2*partSize + 12345, "demo-manual-exact1": partSize} {
			content := Noise(uint64(size), size)
			put(t, name, content)
			r, err := s.Get(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s: got %d bytes of %d, %v", name, len(got), size, err)
			}
		}
		kept(t, "demo-daily-large1", "demo-daily-small1", "demo-manual-exact1")
	})
	t.Run("list takes a prefix", func(t *testing.T) {
		found, err := s.List(ctx, "demo-daily-")
		if diff := cmp.Diff([]string{"demo-daily-large1", "demo-daily-small1"}, Names(found)); diff != "" || err != nil {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
		if found[1].Size != 1 || found[1].Modified.IsZero() {
			t.Errorf("listed %+v, want its size and time", found[1])
		}
	})
	t.Run("a name that is there is left alone", func(t *testing.T) {
		if _, err := s.Put(ctx, "demo-daily-small1", strings.NewReader("other")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("got %v, want that it exists", err)
		}
		found, err := s.List(ctx, "demo-daily-small1")
		if err != nil || len(found) != 1 || found[0].Size != 1 {
			t.Errorf("it became %+v, %v", found, err)
		}
	})
	t.Run("what is missing is said to be", func(t *testing.T) {
		if _, err := s.Get(ctx, "demo-daily-nobody"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want that it does not exist", err)
		}
	})
	t.Run("an upload that is cut off keeps nothing", func(t *testing.T) {
		for reason, cause := range map[string]error{
			"a connection that ends early, which looks like a good end to libraries": io.ErrUnexpectedEOF,
			"any other error": errors.New("the source broke"),
		} {
			for _, size := range []int{0, 100, partSize, partSize + 1} {
				_, err := s.Put(ctx, "demo-daily-broken", io.MultiReader(bytes.NewReader(Noise(1, size)), failing{cause}))
				if !errors.Is(err, cause) {
					t.Errorf("%s after %d bytes: got %v", reason, size, err)
				}
			}
		}
		stopped, cancel := context.WithCancel(ctx)
		_, err := s.Put(stopped, "demo-daily-broken", io.MultiReader(bytes.NewReader(Noise(1, partSize+1)), calling{cancel}, bytes.NewReader(Noise(2, 100))))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stopped: got %v", err)
		}
		kept(t, "demo-daily-large1", "demo-daily-small1", "demo-manual-exact1")
	})
	t.Run("names that lead elsewhere are refused", func(t *testing.T) {
		for _, name := range []string{"", ".", "..", "../x", "/etc/x", "a/b", `a\b`, ".hidden", "A", "a\x00b", "a\nb", "-a", strings.Repeat("a", 129)} {
			if _, err := s.Put(ctx, name, strings.NewReader("x")); err == nil {
				t.Errorf("Put took name %q", name)
			}
			if r, err := s.Get(ctx, name); err == nil {
				t.Errorf("Get took name %q: %v", name, r.Close())
			}
			if err := s.Remove(ctx, name); err == nil {
				t.Errorf("Remove took name %q", name)
			}
		}
	})
	t.Run("remove removes one, and nothing is fine", func(t *testing.T) {
		for range 2 {
			if err := s.Remove(ctx, "demo-daily-large1"); err != nil {
				t.Fatal(err)
			}
		}
		kept(t, "demo-daily-small1", "demo-manual-exact1")
	})
	t.Run("a context that has ended ends everything", func(t *testing.T) {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, put := s.Put(ended, "demo-daily-late01", strings.NewReader("x"))
		_, get := s.Get(ended, "demo-daily-small1")
		_, list := s.List(ended, "")
		for verb, err := range map[string]error{"put": put, "get": get, "list": list, "remove": s.Remove(ended, "demo-daily-small1"), "test": s.Test(ended)} {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: got %v", verb, err)
			}
		}
		kept(t, "demo-daily-small1", "demo-manual-exact1")
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// calling calls a function when it is read, and is at its end.
type calling struct{ f func() }

func (c calling) Read([]byte) (int, error) {
	c.f()
	return 0, io.EOF
}
