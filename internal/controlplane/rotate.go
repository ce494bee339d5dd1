package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	// secretsPrefix is where the API server keeps Secrets in etcd.
	secretsPrefix = "/registry/secrets/"
	// rotatePage is how many Secrets are in memory at the same time; one is at most 1 MiB.
	rotatePage = 32
	// rotateNote is after how many Secrets the log says how far it is.
	rotateNote = 1000
	// rotateRetry and rotateRetryMost bound the wait before a rotation that failed goes on.
	rotateRetry, rotateRetryMost = time.Second, 5 * time.Minute
	// rotatePasses is how often all Secrets are looked at before something must be wrong; two do.
	rotatePasses = 4
	// rotateDial bounds how long reaching our own etcd may take.
	rotateDial = 10 * time.Second
)

// RotateKey puts a new key in front of the one that encrypts Secrets, for a server that does not run; keyDir is that
// of Config. The next start rewrites every Secret and then drops the old key. It gives the path of the key file. It
// fails when a server uses the data, when there is none, and when the last rotation has not ended.
func RotateKey(dataDir, keyDir string) (path string, err error) {
	path = keyFile(dataDir, keyDir)
	err = WithDataDir(dataDir, func() error {
		if err := removeRemains(path); err != nil {
			return err
		}
		ring, err := readKeyRing(path)
		if errors.Is(err, fs.ErrNotExist) {
			return missingKey(dataDir, path)
		}
		if err != nil {
			return err
		}
		if ring.rotating() {
			return fmt.Errorf("cannot rotate the encryption key: the last rotation has not ended; start the server and wait until its log says so")
		}
		key, err := newKey()
		if err != nil {
			return err
		}
		return keyRing{key, ring[0]}.write(path)
	})
	return path, err
}

// WithDataDir runs do while it holds an existing data directory, so that no server does.
func WithDataDir(directory string, do func() error) (err error) {
	if _, err := os.Stat(filepath.Join(directory, "version")); err != nil {
		return fmt.Errorf("cannot use %q as data directory: no server has run there: %w", directory, err)
	}
	lock, err := openDataDir(directory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	return do()
}

// rotation is the way from two keys to one.
type rotation struct {
	path   string
	ring   keyRing
	etcd   *clientv3.Client
	api    kubernetes.Interface
	logger *slog.Logger
	// edge is called at every point where a crash would matter. Nil in production.
	edge func(point string)
}

// startRotation ends a rotation that RotateKey began, beside what else the server does. Nothing but the key file
// says how far it is: what the old key encrypted is looked for anew at each start.
func (s *Server) startRotation(ctx context.Context, f files, logger *slog.Logger, edge func(string)) error {
	if !f.keys.rotating() {
		return nil
	}
	// clientv3 wants a context for its whole life.
	etcd, err := clientv3.New(clientv3.Config{Context: ctx, Endpoints: []string{s.etcd.endpoint()}, DialTimeout: rotateDial, Logger: zap.NewNop()})
	if err != nil {
		return fmt.Errorf("cannot rotate the encryption key: %w", err)
	}
	api, err := kubernetes.NewForConfig(s.RESTConfig())
	if err != nil {
		return errors.Join(fmt.Errorf("cannot rotate the encryption key: %w", err), etcd.Close())
	}
	r := &rotation{path: f.encryption, ring: f.keys, etcd: etcd, api: api, logger: logger, edge: edge}
	s.controllers.Go(func() {
		// Nothing is lost when closing a client fails.
		defer func() { _ = etcd.Close() }()
		r.keepOn(ctx)
	})
	return nil
}

// keepOn runs the rotation until it ends; while it fails, both keys stay.
func (r *rotation) keepOn(ctx context.Context) {
	r.logger.InfoContext(ctx, "rotating the encryption key: rewriting Secrets with the new one", "key", r.ring[0].Name)
	for pause := rotateRetry; ; pause = min(2*pause, rotateRetryMost) {
		err := r.run(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		r.logger.ErrorContext(ctx, "cannot finish rotating the encryption key; the old key is kept meanwhile", "again", pause, "err", err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// run rewrites what the old key encrypted until nothing is left, and then drops that key.
func (r *rotation) run(ctx context.Context) error {
	total, left := 0, 1
	// A pass that finds nothing is the proof: nothing writes with the old key any more.
	for pass := 0; left > 0; pass++ {
		if pass == rotatePasses {
			return fmt.Errorf("%d Secrets were rewritten and are encrypted with the old key all the same", left)
		}
		var err error
		left, err = r.rewrite(ctx)
		total += left
		if err != nil {
			return err
		}
	}
	if err := r.at(ctx, "rewritten"); err != nil {
		return err
	}
	if err := r.forget(ctx); err != nil {
		return err
	}
	if err := r.at(ctx, "forgotten"); err != nil {
		return err
	}
	if err := r.ring[:1].write(r.path); err != nil {
		return err
	}
	r.logger.InfoContext(ctx, "rotated the encryption key: every Secret is encrypted with the new one, and the old one is gone", "key", r.ring[0].Name, "rewritten", total)
	return r.at(ctx, "dropped")
}

// rewrite walks over all Secrets once and gives how many it has rewritten.
func (r *rotation) rewrite(ctx context.Context) (int, error) {
	rewritten := 0
	from, end := secretsPrefix, clientv3.GetPrefixRangeEnd(secretsPrefix)
	for {
		page, err := r.etcd.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(rotatePage))
		if err != nil {
			return rewritten, fmt.Errorf("cannot list the stored Secrets: %w", err)
		}
		for _, kv := range page.Kvs {
			if bytes.HasPrefix(kv.Value, []byte(r.ring.prefix())) {
				continue
			}
			if err := r.touch(ctx, string(kv.Key)); err != nil {
				return rewritten, err
			}
			rewritten++
			if rewritten%rotateNote == 0 {
				r.logger.InfoContext(ctx, "rotating the encryption key", "rewritten", rewritten)
			}
			if err := r.at(ctx, "secret"); err != nil {
				return rewritten, err
			}
		}
		if !page.More {
			return rewritten, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

// touch lets the API server store one Secret again: a patch that changes nothing is written all the same when
// another key than the first one encrypted what is stored.
func (r *rotation) touch(ctx context.Context, key string) error {
	namespace, name, found := strings.Cut(strings.TrimPrefix(key, secretsPrefix), "/")
	if !found {
		return fmt.Errorf("cannot rewrite what is stored as %q: it is no Secret", key)
	}
	_, err := r.api.CoreV1().Secrets(namespace).Patch(ctx, name, types.MergePatchType, []byte("{}"), metav1.PatchOptions{FieldManager: "slipway"})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot rewrite Secret %s/%s: %w", namespace, name, err)
	}
	return nil
}

// forget lets etcd drop the history of values, and give the room back in which they lay.
func (r *rotation) forget(ctx context.Context) error {
	now, err := r.etcd.Get(ctx, secretsPrefix, clientv3.WithCountOnly(), clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("cannot drop the old versions of Secrets: %w", err)
	}
	// Somebody else may have compacted further; then there is nothing left to do.
	if _, err := r.etcd.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical()); err != nil && !strings.Contains(err.Error(), "has been compacted") {
		return fmt.Errorf("cannot drop the old versions of Secrets: %w", err)
	}
	for _, endpoint := range r.etcd.Endpoints() {
		if _, err := r.etcd.Defragment(ctx, endpoint); err != nil {
			return fmt.Errorf("cannot drop the old versions of Secrets: %w", err)
		}
	}
	return nil
}

// at lets a test in, and ends the rotation with the context.
func (r *rotation) at(ctx context.Context, point string) error {
	if r.edge != nil {
		r.edge(point)
	}
	return ctx.Err()
}
