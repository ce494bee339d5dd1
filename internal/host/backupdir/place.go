package backupdir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

const (
	// unfinished begins the names of files in the making, which no backup can have.
	unfinished = ".new-"
	// abandoned is how long nothing was written to an unfinished file before it is taken for what a crash left.
	abandoned = 24 * time.Hour
)

// place is the directory on the host that serves.
type place struct {
	store   *Store
	host    string
	session host.Session
	// writer is there after change.
	writer host.Writer
}

func (p *place) path(name string) string { return path.Join(p.store.spec.Path, name) }

// change takes the right to change the host.
func (p *place) change(ctx context.Context) error {
	fence, err := p.store.Fence(ctx, p.host)
	if err == nil {
		p.writer = p.session.Writer(fence)
	}
	return err
}

func (p *place) list(ctx context.Context) ([]host.Entry, error) {
	r, err := p.session.Query(ctx, host.Listing(p.store.spec.Path))
	if err != nil {
		return nil, err
	}
	return host.DecodeListing(r)
}

// has says whether anything has that name.
func (p *place) has(ctx context.Context, name string) (bool, error) {
	found, err := p.session.Stat(ctx, p.path(name))
	return err == nil && found[0].Exists, err
}

func (p *place) put(ctx context.Context, name string, content *backup.Measured) (_ backup.Object, err error) {
	if there, err := p.has(ctx, name); err != nil {
		return backup.Object{}, err
	} else if there {
		return backup.Object{}, fs.ErrExist
	}
	if err := p.prepare(ctx); err != nil {
		return backup.Object{}, err
	}
	written, kept := p.path(unfinished+rand.Text()), p.path(name)
	defer func() {
		if err == nil {
			return
		}
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
		defer cancel()
		err = errors.Join(err, p.writer.Remove(after, written, kept))
	}()
	// The file is made first, so that it is never readable by others.
	if err := p.writer.WriteFile(ctx, written, host.File{Mode: 0o600}); err != nil {
		return backup.Object{}, err
	}
	if _, err := p.writer.Run(ctx, host.Command{Argv: []string{"dd", "of=" + written, "bs=1M", "conv=fsync", "status=none"}, Stdin: content}); err != nil {
		return backup.Object{}, err
	}
	// A stream that was cut off looks like its end to dd.
	r, err := p.session.Query(ctx, host.Digests(written))
	if err != nil {
		return backup.Object{}, err
	}
	digests, err := host.DecodeDigests(r)
	if err != nil {
		return backup.Object{}, err
	}
	o := content.Object(name)
	if digests[written] != o.SHA256 {
		return backup.Object{}, fault.NewTransient("StoreCorrupts", fmt.Errorf("host %s has a file with digest %q, and was given %d bytes with digest %s; nothing was kept", p.host, digests[written], o.Size, o.SHA256))
	}
	for _, argv := range [][]string{{"mv", "-T", written, kept}, {"sync", p.store.spec.Path}} {
		if _, err := p.writer.Run(ctx, host.Command{Argv: argv}); err != nil {
			return backup.Object{}, err
		}
	}
	return o, nil
}

// prepare makes the directory, but for a mount point, and removes what crashes have left in it.
func (p *place) prepare(ctx context.Context) error {
	if !p.store.spec.Mounted {
		if _, err := p.writer.Run(ctx, host.Command{Argv: []string{"mkdir", "-p", "-m", "700", p.store.spec.Path}}); err != nil {
			return err
		}
	}
	files, err := p.list(ctx)
	if err != nil {
		return err
	}
	var old []string
	for _, f := range files {
		if strings.HasPrefix(f.Name, unfinished) && time.Since(f.Modified) > abandoned {
			old = append(old, p.path(f.Name))
		}
	}
	if len(old) == 0 {
		return nil
	}
	return p.writer.Remove(ctx, old...)
}

// reader reads a file of a host part by part.
type reader struct {
	ctx     context.Context
	at      *place
	path    string
	explain func(error) error
	// parts counts those that were read; left is what of the last one was not given yet.
	parts int64
	left  []byte
	// ended says that the last part was the end.
	ended bool
}

// next reads a part.
func (r *reader) next() error {
	answer, err := r.at.session.Query(r.ctx, host.Chunk(r.path, r.parts))
	if r.left, err = host.DecodeFile(r.path, answer, err); err != nil {
		return err
	}
	r.parts++
	r.ended = len(r.left) < host.MaxFile
	return nil
}

// Read is io.Reader's.
func (r *reader) Read(into []byte) (int, error) {
	if len(r.left) == 0 && !r.ended {
		if err := r.next(); err != nil {
			return 0, r.explain(err)
		}
	}
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	n := copy(into, r.left)
	r.left = r.left[n:]
	return n, nil
}

// Close ends nothing: no command runs between two parts.
func (r *reader) Close() error { return nil }
