package hosttest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/host"
)

func queryChunks(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	first, rest := bytes.Repeat([]byte("0123456\n"), host.MaxFile/8), []byte("the end\n")
	big, link := e.Dir+"/big file", e.Dir+"/link"
	check(t, w.WriteFile(ctx, big, host.File{Content: slices.Concat(first, rest)}))
	_, err := w.Run(ctx, host.Command{Argv: []string{"ln", "-s", big, link}})
	check(t, err)
	for n, want := range [][]byte{first, rest, {}, {}} {
		r, err := w.Query(ctx, host.Chunk(big, int64(n)))
		got, err := host.DecodeFile(big, r, err)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("part %d has %d bytes of %d, %v", n, len(got), len(want), err)
		}
	}
	for name, missing := range map[string]bool{e.Dir + "/none": true, link: false, e.Dir: false} {
		r, err := w.Query(ctx, host.Chunk(name, 0))
		if _, err := host.DecodeFile(name, r, err); err == nil || errors.Is(err, fs.ErrNotExist) != missing {
			t.Errorf("%s: %v, want that it is missing: %t", name, err, missing)
		}
	}
	for _, q := range []host.Query{host.Chunk("relative", 0), host.Chunk(big, -1), host.Listing("relative")} {
		if _, err := w.Query(ctx, q); err == nil {
			t.Errorf("the query %s of %q was let through", q.Name(), q.Args())
		}
	}
}

func queryListing(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	for _, name := range []string{"d/one", "d/.two words", "d/below/three"} {
		check(t, w.WriteFile(ctx, e.Dir+"/"+name, host.File{Content: []byte(name)}))
	}
	_, err := w.Run(ctx, host.Command{Argv: []string{"ln", "-s", e.Dir + "/d/one", e.Dir + "/d/link"}})
	check(t, err)
	sizes := map[string]int64{}
	for _, dir := range []string{e.Dir + "/d", e.Dir + "/none"} {
		r, err := w.Query(ctx, host.Listing(dir))
		check(t, err)
		found, err := host.DecodeListing(r)
		check(t, err)
		for _, f := range found {
			sizes[f.Name] = f.Size
			if age := time.Since(f.Modified); age < -time.Minute || age > time.Hour {
				t.Errorf("%s was written %s ago", f.Name, age)
			}
		}
	}
	if diff := cmp.Diff(map[string]int64{"one": 5, ".two words": 12}, sizes); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
}
