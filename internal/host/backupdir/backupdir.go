// Package backupdir owns the store of backups in a directory of hosts: of one, or of several that mount the same share there.
// It must never change a host that no cluster holds, nor take a directory whose share is not mounted for an empty one.
package backupdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// cleanUpTime bounds the removal of what a failed Put leaves, which happens also when its context has ended.
const cleanUpTime = 30 * time.Second

// Deps is how the hosts are reached.
type Deps struct {
	Sessions host.Sessions
	// Fence gives the right to change a host: that of the cluster which holds it. Where none does the error says so.
	Fence func(ctx context.Context, host string) (host.Fence, error)
}

// Store is a backup.Store in a directory of hosts: a file of mode 600 for each backup. The first host that can be used serves.
type Store struct {
	Deps
	spec v1alpha1.HostDirectoryLocation
}

var _ backup.Store = (*Store)(nil)

// New gives the store. It asks no host yet. Hosts that Slipway does not know any more must not be among those of the spec:
// their files count as lost with them.
func New(spec v1alpha1.HostDirectoryLocation, d Deps) *Store { return &Store{Deps: d, spec: spec} }

// Put streams into a hidden file, compares its digest on the host, and renames it to name.
func (s *Store) Put(ctx context.Context, name string, content io.Reader) (backup.Object, error) {
	if err := backup.CheckName(name); err != nil {
		return backup.Object{}, err
	}
	at, err := s.open(ctx)
	if err == nil {
		err = at.change(ctx)
	}
	if err != nil {
		return backup.Object{}, s.explain("keep backup "+name, err)
	}
	o, err := at.put(ctx, name, backup.Measure(ctx, content))
	if err != nil {
		return backup.Object{}, s.explain("keep backup "+name, err)
	}
	return o, nil
}

// Get reads the file part by part. Each part is asked for when it is needed.
func (s *Store) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := backup.CheckName(name); err != nil {
		return nil, err
	}
	at, err := s.open(ctx)
	if err != nil {
		return nil, s.explain("read backup "+name, err)
	}
	r := &reader{ctx: ctx, at: at, path: at.path(name), explain: func(err error) error { return s.explain("read backup "+name, err) }}
	if err := r.next(); err != nil {
		return nil, r.explain(err)
	}
	return r, nil
}

// List describes the files; a directory that is missing has none.
func (s *Store) List(ctx context.Context, prefix string) ([]backup.Object, error) {
	at, err := s.open(ctx)
	if err != nil {
		return nil, s.explain("list backups", err)
	}
	files, err := at.list(ctx)
	if err != nil {
		return nil, s.explain("list backups", err)
	}
	var found []backup.Object
	for _, f := range files {
		if strings.HasPrefix(f.Name, prefix) && backup.CheckName(f.Name) == nil {
			found = append(found, backup.Object{Name: f.Name, Size: f.Size, Modified: f.Modified})
		}
	}
	slices.SortFunc(found, func(a, b backup.Object) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// Remove deletes the file of that name. A host that no cluster holds is not changed; it is fine once somebody has removed the
// file there by hand.
func (s *Store) Remove(ctx context.Context, name string) error {
	if err := backup.CheckName(name); err != nil {
		return err
	}
	if len(s.spec.Hosts) == 0 && ctx.Err() == nil {
		return nil // It was lost with its host.
	}
	at, err := s.open(ctx)
	if err != nil {
		return s.explain("remove backup "+name, err)
	}
	there, err := at.has(ctx, name)
	if err == nil && there {
		if err = at.change(ctx); err == nil {
			err = at.writer.Remove(ctx, at.path(name))
		}
	}
	if err != nil {
		return s.explain("remove backup "+name, err)
	}
	return nil
}

// Test probes the directory, and looks for what one host wrote on each other one that can be reached.
func (s *Store) Test(ctx context.Context) error {
	err := backup.Probe(ctx, s)
	if err == nil && len(s.spec.Hosts) > 1 {
		err = s.compare(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot use directory %s of %s for backups: %w", s.spec.Path, s.hosts(), err)
	}
	return nil
}

// compare proves that all hosts have the same share.
func (s *Store) compare(ctx context.Context) (err error) {
	name := backup.NewName("slipway", "probe")
	if _, err := s.Put(ctx, name, strings.NewReader(name)); err != nil {
		return err
	}
	defer func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
		defer cancel()
		err = errors.Join(err, s.Remove(after, name))
	}()
	for _, one := range s.spec.Hosts {
		single := s.spec
		single.Hosts = []string{one}
		r, err := New(single, s.Deps).Get(ctx, name)
		switch {
		case err == nil:
			err = r.Close()
		case errors.Is(err, fs.ErrNotExist):
			err = fault.NewTerminal("NotShared", "mount the same share at "+s.spec.Path+" on every host of the location",
				fmt.Errorf("host %s does not see what another one has written: %w", one, err))
		case fault.ReasonOf(err) == host.ReasonUnreachable:
			err = nil // Others serve meanwhile.
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// open gives the first host that can be reached and, where the spec says so, has the share mounted.
func (s *Store) open(ctx context.Context) (*place, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	problem := fault.NewTerminal("HostGone", "choose another backup location", fmt.Errorf("the host is not one of Slipway's any more: what was kept there is lost: %w", fs.ErrNotExist))
	for i, name := range s.spec.Hosts {
		at, err := s.at(ctx, name)
		if err == nil {
			return at, nil
		}
		if i == 0 {
			problem = err
		} else {
			problem = errors.Join(problem, err)
		}
	}
	return nil, problem
}

func (s *Store) at(ctx context.Context, name string) (*place, error) {
	session, err := s.Sessions.Session(ctx, name)
	if err != nil {
		return nil, err
	}
	if s.spec.Mounted {
		if err := mounted(ctx, session, name, s.spec.Path); err != nil {
			return nil, err
		}
	}
	return &place{store: s, host: name, session: session}, nil
}

// mounted refuses a host that has nothing mounted at the path: backups would go to its own disk, and none would be found.
func mounted(ctx context.Context, session host.Session, name, dir string) error {
	r, err := session.Query(ctx, host.Mounts())
	if err != nil {
		return err
	}
	mounts, err := host.DecodeMounts(r)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(mounts, func(m host.Mount) bool { return m.Path == dir }) {
		return fault.NewTerminal("NotMounted", "mount the share at "+dir+" on host "+name+", also after a reboot (/etc/fstab)",
			fmt.Errorf("nothing is mounted at %s on host %s", dir, name))
	}
	return nil
}

func (s *Store) hosts() string {
	if len(s.spec.Hosts) == 0 {
		return "no host"
	}
	return strings.Join(s.spec.Hosts, ", ")
}

// explain adds what was to be done, and a fix for what people can mend.
func (s *Store) explain(what string, err error) error {
	err = fmt.Errorf("cannot %s in directory %s of %s: %w", what, s.spec.Path, s.hosts(), err)
	var failed *host.CommandError
	if fault.ReasonOf(err) == host.ReasonFencedOff {
		// An operation has claimed the host since; the next try has its epoch.
		return fault.NewTransient(host.ReasonBusy, err)
	}
	if !errors.As(err, &failed) {
		return err
	}
	for _, known := range []struct{ text, reason, fix string }{
		{"Permission denied", "NotAllowed", "let root of the host write to " + s.spec.Path + "; an NFS share needs no_root_squash"},
		{"Operation not permitted", "NotAllowed", "let root of the host write to " + s.spec.Path + "; an NFS share needs no_root_squash"},
		{"No space left on device", "Full", "free space at " + s.spec.Path + ", or keep fewer backups"},
		{"Disk quota exceeded", "Full", "free space at " + s.spec.Path + ", or keep fewer backups"},
		{"Read-only file system", "ReadOnly", "mount " + s.spec.Path + " so that it can be written to"},
	} {
		if strings.Contains(string(failed.Result.Stderr), known.text) {
			return fault.NewTerminal(known.reason, known.fix, err)
		}
	}
	return err
}
