package drill

import (
	"context"
	"fmt"
	"maps"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/fault"
)

// compare counts every object that the API serves, as it was when the backup was taken, and reads a Secret.
func (d *drill) compare(ctx context.Context, etcd *clientv3.Client, a *api) (Result, error) {
	want := d.job.Want
	paths, err := a.resources(ctx, want.Revision)
	if err != nil {
		return Result{}, fail(ctx, err, "tell what the restored API serves")
	}
	var result Result
	for _, name := range slices.Sorted(maps.Keys(want.Objects)) {
		found, err := count(ctx, etcd, a, name, paths[name], want.Revision)
		if err != nil {
			return Result{}, fail(ctx, err, "read the %s of the backup", name)
		}
		if found != want.Objects[name] {
			return Result{}, unproven("the restored API serves %s of %s, and the backup was taken with %d", objects(found), name, want.Objects[name])
		}
		result.Objects += found
		result.Resources++
	}
	all, err := inEtcd(ctx, etcd, backup.Registry, want.Revision)
	if err != nil {
		return Result{}, fail(ctx, err, "count the objects of the backup")
	}
	if all != want.Total() {
		return Result{}, unproven("etcd has come back with %s, and the backup was taken with %d", objects(all), want.Total())
	}
	if result.Secret, err = a.secret(ctx, want.Revision); err != nil {
		return Result{}, fail(ctx, err, "read a Secret of the backup")
	}
	return result, nil
}

// fail is about the backup, unless the drill was ended.
func fail(ctx context.Context, err error, format string, args ...any) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if fault.ReasonOf(err) == ReasonUnproven {
		return err
	}
	return unproven("cannot "+format+": %w", append(args, err)...)
}

// count asks the API, and etcd itself for what no API serves.
func count(ctx context.Context, etcd *clientv3.Client, a *api, name, path string, revision int64) (int64, error) {
	if path == "" {
		return inEtcd(ctx, etcd, backup.Registry+name+"/", revision)
	}
	n, err := a.count(ctx, path, revision)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

func inEtcd(ctx context.Context, etcd *clientv3.Client, prefix string, revision int64) (int64, error) {
	found, err := etcd.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly(), clientv3.WithRev(revision))
	if err != nil {
		return 0, err
	}
	return found.Count, nil
}
