package ssh

import (
	"context"
	"path/filepath"
	"testing"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/backup/backuptest"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/backupdir"
)

// one is a host that is always reached by the same session.
type one struct{ session *Session }

// Session gives it.
func (o one) Session(context.Context, string) (host.Session, error) { return o.session, nil }

// TestBackupDirectory runs the suite of stores of backups against the real sshd and its programs.
func TestBackupDirectory(t *testing.T) {
	t.Parallel()
	target, dir := startSSHD(t, "true"), t.TempDir()
	target.place = host.FencePlace{State: filepath.Join(dir, "lib/slipway/fence"), Runtime: filepath.Join(dir, "run/slipway"), Wait: 1}
	backuptest.Run(t, backupdir.New(v1alpha1.HostDirectoryLocation{Hosts: []string{"cp1"}, Path: filepath.Join(dir, "not/there/yet")}, backupdir.Deps{
		Sessions: one{dialTest(t, target)},
		Fence:    func(context.Context, string) (host.Fence, error) { return host.Fence{Owner: "alpha", Epoch: 1}, nil },
	}))
}
