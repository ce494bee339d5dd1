// Package drill owns the proof that a backup can be brought back: an etcd and an API server of the backup's own version,
// which run for a moment on the server's machine, serve every object and are gone again. It must never let them be reached
// from elsewhere, reach anything themselves, or leave a process or a file behind.
package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/opencontainers/go-digest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/fault"
)

// ReasonUnproven says that a backup could not be brought back, or came back as something else. It is Terminal.
const ReasonUnproven = "Unproven"

const (
	// startTime bounds how long each of the two may take until it answers, lookEvery how long between two looks.
	startTime = 3 * time.Minute
	lookEvery = 100 * time.Millisecond
	// nobody is an address that a lonely etcd has to name, and never uses.
	nobody = "http://127.0.0.1:1"
)

// The files of a room.
const (
	etcdProgram, apiProgram, etcdutlProgram = "etcd", "kube-apiserver", "etcdutl"
	dataDir, snapshotFile                   = "data", "snapshot.db"
	etcdSocket, peerSocket                  = "etcd.sock", "peer.sock"
)

// Store gives programs by digest, and proves them; bundle.Store is one.
type Store interface {
	// ImageProgram writes the program of that name in an image.
	ImageProgram(ctx context.Context, image digest.Digest, name string, w io.Writer) error
	// FileProgram writes a node file.
	FileProgram(ctx context.Context, file digest.Digest, w io.Writer) error
}

// Programs are those of the backup's Kubernetes version, for this machine: two images and a node file.
type Programs struct {
	Etcd, APIServer, Etcdutl digest.Digest
}

// Job is one backup to prove.
type Job struct {
	Programs Programs
	// Snapshot gives the etcd snapshot, which must have been proven. It is read once.
	Snapshot io.Reader
	// AccountKey and AccountPublic are the cluster's service-account key, PEM.
	AccountKey, AccountPublic []byte
	// ServiceCIDR is the cluster's network of Services.
	ServiceCIDR string
	// Want is what the snapshot must hold.
	Want backup.Tally
}

// Result is what a drill has found.
type Result struct {
	// Objects and Resources are how many objects, of how many resources, came back.
	Objects, Resources int64
	// Secret is NAMESPACE/NAME of the one that was read; empty when there is none.
	Secret string
}

// Runner runs drills, one at a time.
type Runner struct {
	store Store
	dir   string
	slot  chan struct{}
}

// New gives a runner that works below dir, which must be for the server's eyes alone, and takes programs from store.
func New(store Store, dir string) *Runner {
	return &Runner{store: store, dir: dir, slot: make(chan struct{}, 1)}
}

// Run proves one backup. When it returns, nothing of it runs or is left. An error of class Terminal with ReasonUnproven
// is about the backup.
func (r *Runner) Run(ctx context.Context, job Job) (result Result, err error) {
	select {
	case r.slot <- struct{}{}:
		defer func() { <-r.slot }()
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	room, err := newRoom(r.dir)
	if err != nil {
		return Result{}, fmt.Errorf("cannot begin a drill: %w", err)
	}
	defer func() {
		if closeErr := room.close(); closeErr != nil {
			err = errors.Join(err, fmt.Errorf("cannot tidy up after a drill: %w", closeErr))
		}
	}()
	d := &drill{room: room, job: job}
	if err := d.furnish(ctx, r.store); err != nil {
		return Result{}, fmt.Errorf("cannot begin a drill: %w", err)
	}
	etcd, err := d.startEtcd(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, etcd.Close()) }()
	if err := d.isolate(ctx, etcd); err != nil {
		return Result{}, err
	}
	api, err := d.startAPI(ctx)
	if err != nil {
		return Result{}, d.why(ctx, etcd, err)
	}
	defer api.close()
	if result, err = d.compare(ctx, etcd, api); err != nil {
		return Result{}, d.why(ctx, etcd, err)
	}
	return result, nil
}

// drill is one run.
type drill struct {
	room *room
	job  Job
}

// unproven is an error about the backup.
func unproven(format string, args ...any) error {
	return fault.NewTerminal(ReasonUnproven, "take another backup now and prove that one; look at the operation's log", fmt.Errorf(format, args...))
}

// furnish puts the programs and the snapshot into the room.
func (d *drill) furnish(ctx context.Context, store Store) error {
	for name, fill := range map[string]func(io.Writer) error{
		etcdProgram:    func(w io.Writer) error { return store.ImageProgram(ctx, d.job.Programs.Etcd, etcdProgram, w) },
		apiProgram:     func(w io.Writer) error { return store.ImageProgram(ctx, d.job.Programs.APIServer, apiProgram, w) },
		etcdutlProgram: func(w io.Writer) error { return store.FileProgram(ctx, d.job.Programs.Etcdutl, w) },
	} {
		if err := d.room.program(name, fill); err != nil {
			return err
		}
	}
	if err := d.room.program(snapshotFile, func(w io.Writer) error {
		_, err := io.Copy(w, d.job.Snapshot)
		return err
	}); err != nil {
		return err
	}
	return d.room.own(snapshotFile)
}

// startEtcd restores the snapshot as it is, without a higher revision: what is compared is what was taken.
func (d *drill) startEtcd(ctx context.Context) (*clientv3.Client, error) {
	const name = "drill"
	member := []string{"--name=" + name, "--data-dir=" + d.room.inside(dataDir), "--initial-cluster=" + name + "=" + nobody, "--initial-advertise-peer-urls=" + nobody}
	if err := d.room.run(ctx, etcdutlProgram, append([]string{"snapshot", "restore", d.room.inside(snapshotFile)}, member...)...); err != nil {
		if ctx.Err() != nil || fault.ReasonOf(err) == "CannotRun" {
			return nil, err
		}
		return nil, unproven("cannot restore the snapshot: %w", err)
	}
	etcd, err := d.room.start(etcdProgram, append(member,
		"--listen-client-urls=unix://"+d.room.inside(etcdSocket), "--listen-peer-urls=unix://"+d.room.inside(peerSocket),
		"--advertise-client-urls="+nobody, "--unsafe-no-fsync", "--log-level=error")...)
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{d.room.socket(etcdSocket)}, Logger: zap.NewNop(), DialTimeout: lookEvery * 10})
	if err != nil {
		return nil, fmt.Errorf("cannot reach the etcd of a drill: %w", err)
	}
	err = until(ctx, etcd, func(ctx context.Context) error {
		found, err := client.Get(ctx, backup.Registry, clientv3.WithCountOnly())
		if err == nil && found.Header.Revision != d.job.Want.Revision {
			return unproven("etcd has come back at revision %d, and the backup was taken at %d", found.Header.Revision, d.job.Want.Revision)
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return client, nil
}

// isolate takes away what would let the API server call others: aggregated APIs. What is compared is older than that.
func (d *drill) isolate(ctx context.Context, etcd *clientv3.Client) error {
	if _, err := etcd.Delete(ctx, backup.Registry+"apiregistration.k8s.io/", clientv3.WithPrefix()); err != nil {
		return fmt.Errorf("cannot prepare the etcd of a drill: %w", err)
	}
	return nil
}

// until asks again until the answer is good, the program has ended, or the time is over. A Terminal answer is final.
func until(ctx context.Context, p *process, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	again := time.NewTicker(lookEvery)
	defer again.Stop()
	for {
		looking, stop := context.WithTimeout(ctx, 5*time.Second)
		err := ask(looking)
		stop()
		if err == nil || fault.ReasonOf(err) == ReasonUnproven {
			return err
		}
		select {
		case <-again.C:
		case <-p.done:
			return unproven("cannot start with the data of the backup: %w", p.ended())
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return unproven("%s did not answer in %s with the data of the backup: %w: %s", p.name, startTime, err, p.said.last())
			}
			return ctx.Err()
		}
	}
}

// freePort gives a port of loopback that nobody uses now.
func freePort(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

// apiFlags let the API server serve what etcd holds, and nothing more: it calls no webhook, forgets no revision, and is
// known to nobody.
func (d *drill) apiFlags(port string) []string {
	in := d.room.inside
	flags := map[string]string{
		"etcd-servers": "unix://" + in(etcdSocket), "etcd-compaction-interval": "0", "watch-cache": "false",
		"bind-address": "127.0.0.1", "secure-port": port, "advertise-address": "127.0.0.1", "endpoint-reconciler-type": "none",
		"service-cluster-ip-range": d.job.ServiceCIDR, "authorization-mode": "RBAC", "anonymous-auth": "false", "client-ca-file": in(caFile),
		"tls-cert-file": in(servingCert), "tls-private-key-file": in(servingKey), "service-account-issuer": "https://drill.invalid",
		"service-account-key-file": in(accountPublic), "service-account-signing-key-file": in(accountKey),
		"disable-admission-plugins":    "MutatingAdmissionWebhook,ValidatingAdmissionWebhook",
		"enable-priority-and-fairness": "false", "profiling": "false", "v": "0",
	}
	var list []string
	for name, value := range flags {
		list = append(list, "--"+name+"="+value)
	}
	return list
}

func objects(n int64) string {
	if n == 1 {
		return "1 object"
	}
	return fmt.Sprintf("%d objects", n)
}
