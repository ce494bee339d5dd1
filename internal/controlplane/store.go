package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

const (
	// storeQuota is the size at which etcd refuses writes and raises its alarm.
	storeQuota = 8 << 30
	// defragmentAbove is how many MiB must be won before the store is defragmented at start.
	defragmentAbove = 64
	// maxSocketPath is what Linux allows for the path of a Unix socket, its end mark included.
	maxSocketPath = 107
)

// store is the embedded etcd, reachable only through a Unix socket that only this user can open.
type store struct {
	etcd   *embed.Etcd
	socket string
	// handle keeps a short name for the socket's directory alive when its own path is too long.
	handle *os.File
}

func startStore(ctx context.Context, directory, runDir string, logger *zap.Logger) (*store, error) {
	s := &store{socket: filepath.Join(runDir, "etcd.sock")}
	if len(s.socket) > maxSocketPath {
		handle, err := os.Open(runDir)
		if err != nil {
			return nil, fmt.Errorf("cannot start etcd: %w", err)
		}
		s.handle, s.socket = handle, fmt.Sprintf("/proc/self/fd/%d/etcd.sock", handle.Fd())
	}
	if err := os.RemoveAll(s.socket); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start etcd: %w", err), s.closeHandle())
	}
	etcd, err := embed.StartEtcd(storeConfig(directory, s.socket, logger))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start etcd on %s: %w", directory, err), s.closeHandle())
	}
	s.etcd = etcd
	select {
	case <-etcd.Server.ReadyNotify():
		return s, nil
	case err := <-etcd.Err():
		err = fmt.Errorf("cannot start etcd on %s: %w", directory, err)
		s.close()
		return nil, err
	case <-ctx.Done():
		s.close()
		return nil, fmt.Errorf("cannot start etcd on %s: %w", directory, ctx.Err())
	}
}

func storeConfig(directory, socket string, logger *zap.Logger) *embed.Config {
	config := embed.NewConfig()
	config.Name = "slipway"
	config.Dir = directory
	config.InitialClusterToken = "slipway"
	// One member has no peers: it names an address for its own record and listens on none.
	config.ListenPeerUrls = nil
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.ListenClientUrls = []url.URL{{Scheme: "unix", Path: socket}}
	config.AdvertiseClientUrls = config.ListenClientUrls
	config.EnableGRPCGateway = false
	config.QuotaBackendBytes = storeQuota
	config.BootstrapDefragThresholdMegabytes = defragmentAbove
	// The API server compacts every five minutes; this is for revisions written without it.
	config.AutoCompactionMode = embed.CompactorModePeriodic
	config.AutoCompactionRetention = "1h"
	// Elections have one voter, so their time only delays the start.
	config.TickMs, config.ElectionMs = 20, 200
	config.WarningApplyDuration = time.Second
	config.WarningUnaryRequestDuration = 2 * time.Second
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	return config
}

// endpoint gives the URL that etcd clients of this process dial.
func (s *store) endpoint() string { return "unix://" + s.socket }

// failed gives what ended etcd by itself.
func (s *store) failed() <-chan error { return s.etcd.Err() }

func (s *store) close() {
	s.etcd.Close()
	// The handle only names a directory; nothing is lost if closing it fails.
	_ = s.closeHandle()
}

func (s *store) closeHandle() error {
	if s.handle == nil {
		return nil
	}
	return s.handle.Close()
}
