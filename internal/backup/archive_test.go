package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"slipway.dev/slipway/api/v1alpha1"
)

// etcdSnapshot starts an etcd, writes to it, and takes a snapshot.
func etcdSnapshot(t *testing.T, value string) []byte {
	t.Helper()
	config := embed.NewConfig()
	config.Dir = filepath.Join(t.TempDir(), "etcd")
	config.ListenPeerUrls = nil
	config.ListenClientUrls = []url.URL{{Scheme: "unix", Path: filepath.Join(t.TempDir(), "s")}}
	config.AdvertiseClientUrls = config.ListenClientUrls
	config.TickMs, config.ElectionMs, config.UnsafeNoFsync = 10, 100, true
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(config)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
	client := v3client.New(server.Server)
	if _, err := client.Put(t.Context(), "/registry/"+value, value); err != nil {
		t.Fatal(err)
	}
	r, err := client.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	// It ends the client's context, and gives that as an error.
	_ = client.Close()
	return content
}

// plainSnapshot looks like a snapshot of that many pages, of noise.
func plainSnapshot(pages int) []byte {
	const pageSize = 4096
	b := noise(uint64(pages), pages*pageSize)
	little := binary.LittleEndian
	little.PutUint16(b[8:], metaFlag)
	meta := b[pageHeader:]
	little.PutUint32(meta, metaMagic)
	little.PutUint32(meta[4:], metaVersion)
	little.PutUint32(meta[8:], pageSize)
	little.PutUint64(meta[40:], uint64(pages))
	return sealSnapshot(b)
}

// sealSnapshot makes both checksums right again.
func sealSnapshot(database []byte) []byte {
	sum := fnv.New64a()
	sum.Write(database[pageHeader : pageHeader+metaSummed])
	binary.LittleEndian.PutUint64(database[pageHeader+metaSummed:], sum.Sum64())
	whole := sha256.Sum256(database)
	return append(bytes.Clone(database), whole[:]...)
}

func contents(name string, snapshot []byte) Contents {
	d := Description{ControlPlanes: []Host{{Name: name + "-cp1", Address: "192.0.2.1", InternalAddress: "10.0.0.1"}}}
	d.Spec.Kubernetes.Version = "v1.36.3"
	d.Spec.ControlPlane.Hosts = []string{name + "-cp1"}
	d.Spec.WorkerPools = []v1alpha1.WorkerPool{{Name: "pool", Hosts: []string{"w1"}, Labels: map[string]string{"a": "b"}}}
	return Contents{
		Facts: Facts{
			Cluster: Cluster{Namespace: "dev", Name: name, UID: "uid-" + name}, TakenAt: time.Date(2026, 5, 4, 3, 2, 1, 5, time.FixedZone("x", 3600)),
			KubernetesVersion: "v1.36.3", EtcdVersion: "3.6.14", Actor: "paul", Reason: "before an upgrade", Revision: 42, TotalKeys: 7,
		},
		Description: d,
		Keys:        map[string][]byte{"ca.key": []byte("key of " + name), "sa.key": {0, 1, 2, 255}},
		Snapshot:    bytes.NewReader(snapshot),
	}
}

func newKey(t *testing.T) *age.HybridIdentity {
	t.Helper()
	key, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writeTo(t *testing.T, c Contents, key *age.HybridIdentity) ([]byte, Manifest) {
	t.Helper()
	var file bytes.Buffer
	m, err := Write(t.Context(), &file, c, key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), m
}

func TestRoundTrip(t *testing.T) {
	snapshot, key := etcdSnapshot(t, "one"), newKey(t)
	want := contents("demo", snapshot)
	file, manifest := writeTo(t, want, key)

	header, err := ReadHeader(bytes.NewReader(file))
	wantHeader := Header{Format: Format, Cluster: want.Facts.Cluster, TakenAt: time.Date(2026, 5, 4, 2, 2, 1, 0, time.UTC)}
	if diff := cmp.Diff(wantHeader, header); diff != "" || err != nil {
		t.Errorf("header: %v (-want +got):\n%s", err, diff)
	}
	plain, _, _ := bytes.Cut(file, []byte("\n"))
	if diff := cmp.Diff(`{"format":"slipway.dev/backup/v1","cluster":{"namespace":"dev","name":"demo","uid":"uid-demo"},"takenAt":"2026-05-04T02:02:01Z"}`, string(plain)); diff != "" {
		t.Errorf("what anyone may read (-want +got):\n%s", diff)
	}
	verified, err := Verify(t.Context(), bytes.NewReader(file), newKey(t), key)
	if diff := cmp.Diff(manifest, verified); diff != "" || err != nil {
		t.Errorf("verified: %v (-written +verified):\n%s", err, diff)
	}
	if manifest.Revision != 42 || manifest.TotalKeys != 7 || len(manifest.Parts) != 3 || manifest.Parts[2].Size != int64(len(snapshot)) || manifest.Parts[2].SHA256 != digest(snapshot) {
		t.Errorf("the manifest says %+v", manifest)
	}

	directory := t.TempDir()
	opened, err := Open(t.Context(), bytes.NewReader(file), directory, key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Description, opened.Description); diff != "" {
		t.Errorf("description (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Keys, opened.Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	got, err := os.ReadFile(opened.Snapshot)
	if err != nil || !bytes.Equal(got, snapshot) {
		t.Errorf("the snapshot has %d bytes of %d, %v", len(got), len(snapshot), err)
	}
	if info, err := os.Stat(opened.Snapshot); err != nil || info.Mode() != 0o600 {
		t.Errorf("the snapshot has mode %v, %v", info.Mode(), err)
	}
	database, err := bbolt.Open(opened.Snapshot, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	err = database.View(func(tx *bbolt.Tx) error {
		if tx.Bucket([]byte("key")).Stats().KeyN != 1 {
			t.Error("the database does not hold the one key")
		}
		return nil
	})
	if err := errors.Join(err, database.Close(), opened.Close(), opened.Close()); err != nil {
		t.Error(err)
	}
	empty(t, directory)
}

func empty(t *testing.T, directory string) {
	t.Helper()
	if left, err := os.ReadDir(directory); err != nil || len(left) != 0 {
		t.Errorf("%v, %v are left", left, err)
	}
}

// TestSecretsStayInside: nothing but the plain line can be read without the key.
func TestSecretsStayInside(t *testing.T) {
	file, _ := writeTo(t, contents("demo", plainSnapshot(4)), newKey(t))
	for _, word := range []string{"key of demo", "ca.key", "192.0.2.1", "v1.36.3", "paul", "pool"} {
		if bytes.Contains(file, []byte(word)) {
			t.Errorf("%q can be read", word)
		}
	}
}

// TestWriteRefuses: what could not be restored is never called a backup.
func TestWriteRefuses(t *testing.T) {
	good, key := plainSnapshot(4), newKey(t)
	changed := func(change func(b []byte)) []byte {
		b := bytes.Clone(good[:len(good)-sha256.Size])
		change(b)
		return sealSnapshot(b)
	}
	broken := errors.New("the connection was lost")
	for _, test := range []struct {
		reason string
		change func(*Contents)
		want   string
	}{
		{"no snapshot", func(c *Contents) { c.Snapshot = nil }, "the snapshot is missing"},
		{"an empty one", func(c *Contents) { c.Snapshot = strings.NewReader("") }, "cut off"},
		{"cut off", func(c *Contents) { c.Snapshot = bytes.NewReader(good[:len(good)-1]) }, "cut off"},
		{"cut off before its checksum", func(c *Contents) { c.Snapshot = bytes.NewReader(good[:len(good)-sha256.Size]) }, "cut off"},
		{"cut off at a page", func(c *Contents) { c.Snapshot = bytes.NewReader(good[:4096+sha256.Size]) }, "its own checksum"},
		{"a bit flipped on the way", func(c *Contents) { b := bytes.Clone(good); b[9000] ^= 4; c.Snapshot = bytes.NewReader(b) }, "its own checksum"},
		{"the connection is lost", func(c *Contents) { c.Snapshot = io.MultiReader(bytes.NewReader(good[:5000]), failing{broken}) }, broken.Error()},
		{"the connection ends early", func(c *Contents) {
			c.Snapshot = io.MultiReader(bytes.NewReader(good), failing{io.ErrUnexpectedEOF})
		}, "unexpected EOF"},
		{"no database", func(c *Contents) { c.Snapshot = bytes.NewReader(sealSnapshot(make([]byte, 4096))) }, "no database"},
		{"a torn first page", func(c *Contents) {
			b := bytes.Clone(good[:len(good)-sha256.Size])
			b[pageHeader+20] ^= 1
			sum := sha256.Sum256(b)
			c.Snapshot = bytes.NewReader(append(b, sum[:]...))
		}, "first page"},
		{"pages are missing, and all checksums are right", func(c *Contents) {
			c.Snapshot = bytes.NewReader(changed(func(b []byte) { binary.LittleEndian.PutUint64(b[pageHeader+40:], 5) }))
		}, "fewer pages"},
		{"no keys", func(c *Contents) { c.Keys = nil }, "keys of the cluster are missing"},
		{"an empty key", func(c *Contents) { c.Keys["ca.key"] = nil }, "empty"},
		{"no control plane", func(c *Contents) { c.Description.ControlPlanes = nil }, "no control plane"},
		{"no UID", func(c *Contents) { c.Facts.Cluster.UID = "" }, "UID"},
		{"no time", func(c *Contents) { c.Facts.TakenAt = time.Time{} }, "time"},
		{"no version", func(c *Contents) { c.Facts.EtcdVersion = "" }, "versions"},
	} {
		c := contents("demo", good)
		test.change(&c)
		if _, err := Write(t.Context(), io.Discard, c, key.Recipient()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.reason, err, test.want)
		}
	}
	if _, err := Write(t.Context(), io.Discard, contents("demo", good)); err == nil {
		t.Error("a backup was written for nobody")
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(stopped, io.Discard, contents("demo", good), key.Recipient()); !errors.Is(err, context.Canceled) {
		t.Errorf("a stopped one: %v", err)
	}
}

// peak is a source that remembers the largest heap while it is read.
type peak struct {
	from io.Reader
	next int
	heap uint64
}

func (p *peak) Read(into []byte) (int, error) {
	n, err := p.from.Read(into)
	if p.next -= n; p.next < 0 {
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		p.heap, p.next = max(p.heap, now.HeapAlloc), 1<<20
	}
	return n, err
}

type zeros struct{}

func (zeros) Read(into []byte) (int, error) {
	clear(into)
	return len(into), nil
}

// TestStreams: a large snapshot is never in memory, neither when it is written nor when it is verified.
func TestStreams(t *testing.T) {
	const size = 128 << 20
	first := plainSnapshot(1)[:4096]
	large := io.MultiReader(bytes.NewReader(first), io.LimitReader(zeros{}, size-4096))
	sum := sha256.New()
	if _, err := io.Copy(sum, io.TeeReader(large, io.Discard)); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	source := &peak{from: io.MultiReader(bytes.NewReader(first), io.LimitReader(zeros{}, size-4096), bytes.NewReader(sum.Sum(nil)))}
	c, key := contents("demo", nil), newKey(t)
	c.Snapshot = source
	r, w := io.Pipe()
	go func() {
		_, err := Write(t.Context(), w, c, key.Recipient())
		w.CloseWithError(err)
	}()
	m, err := Verify(t.Context(), r, key)
	if err != nil || m.Parts[2].Size != size+sha256.Size {
		t.Fatalf("%+v, %v", m, err)
	}
	if source.heap == 0 || source.heap > before.HeapAlloc+size/4 {
		t.Errorf("the heap grew from %d to %d bytes for a snapshot of %d", before.HeapAlloc, source.heap, size)
	}
}
