package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// someSecrets is more than a page.
const someSecrets = rotatePage + 8

// rotating is a data directory whose encryption key is rotated by one server after another.
type rotating struct {
	directory, keyDir string
}

// run starts a server and stops it when the rotation comes to the given point for the nth time, as a crash would:
// nothing after the point happens. With an empty point it waits for the end of the rotation.
func (r rotating) run(t *testing.T, point string, nth int, look func(*Server)) {
	t.Helper()
	var server *Server
	var log bytes.Buffer
	started, reached := make(chan struct{}), make(chan struct{})
	ended := sync.OnceFunc(func() { close(reached) })
	if point == "" {
		point, nth = "dropped", 1
	}
	config := Config{DataDir: r.directory, EncryptionKeyDir: r.keyDir, Logger: slog.New(slog.NewTextHandler(&log, nil)), rotationEdge: func(at string) {
		if at == point {
			nth--
		}
		if nth == 0 {
			<-started
			server.stopControllers()
			ended()
		}
	}}
	server, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	close(started)
	defer func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if look != nil {
		look(server)
	}
	ring, err := readKeyRing(keyFile(r.directory, r.keyDir))
	if err != nil {
		t.Fatal(err)
	}
	if !ring.rotating() && nth > 0 {
		return
	}
	select {
	case <-reached:
	case <-time.After(time.Minute):
		t.Fatalf("the rotation did not come to %q: %s", point, log.String())
	}
}

func (r rotating) keys(t *testing.T) keyRing {
	t.Helper()
	ring, err := readKeyRing(keyFile(r.directory, r.keyDir))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// readable fails unless every Secret has its value.
func readable(t *testing.T, server *Server) {
	t.Helper()
	client := kubernetes.NewForConfigOrDie(server.RESTConfig())
	list, err := client.CoreV1().Secrets("kept").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != someSecrets {
		t.Errorf("%d Secrets are left of %d", len(list.Items), someSecrets)
	}
	for _, s := range list.Items {
		if string(s.Data["value"]) != "value of "+s.Name {
			t.Errorf("Secret %s is %q", s.Name, s.Data["value"])
		}
	}
}

// stored counts what each key encrypted, in etcd itself.
func stored(t *testing.T, server *Server) map[string]int {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.etcd.endpoint()}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	all, err := client.Get(t.Context(), "", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, kv := range all.Kvs {
		if name, found := bytes.CutPrefix(kv.Value, []byte("k8s:enc:secretbox:v1:")); found {
			count[string(name[:bytes.IndexByte(name, ':')])]++
		} else if strings.HasPrefix(string(kv.Key), secretsPrefix) {
			t.Errorf("%s is stored as it is", kv.Key)
		}
	}
	return count
}

// TestRotation rotates the key and crashes at each point on the way: every Secret can be read after each start, and in
// the end nothing in etcd needs the old key.
func TestRotation(t *testing.T) {
	r := rotating{directory: t.TempDir(), keyDir: t.TempDir()}
	r.run(t, "", 1, func(server *Server) {
		client := kubernetes.NewForConfigOrDie(server.RESTConfig())
		if _, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for i := range someSecrets {
			fixed := i%2 == 0
			s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("s", i)}, Immutable: &fixed, StringData: map[string]string{"value": fmt.Sprint("value of s", i)}}
			if _, err := client.CoreV1().Secrets("kept").Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	})
	old := r.keys(t)
	if _, err := RotateKey(r.directory, r.keyDir); err != nil {
		t.Fatal(err)
	}
	both := r.keys(t)
	if len(both) != 2 || both[1] != old[0] {
		t.Fatalf("the file holds %v after rotate-key", names(both))
	}
	for _, crash := range []struct {
		point string
		nth   int
	}{{"secret", 1}, {"secret", rotatePage + 2}, {"rewritten", 1}, {"forgotten", 1}} {
		r.run(t, crash.point, crash.nth, func(server *Server) {
			readable(t, server)
			comeAndGo(t, server)
		})
		if got := r.keys(t); len(got) != 2 || got[1] != old[0] {
			t.Fatalf("after a crash at %s %d the file holds %v: the old key is needed until all is rewritten", crash.point, crash.nth, names(got))
		}
	}
	r.run(t, "", 1, func(server *Server) { readable(t, server) })
	if got := r.keys(t); len(got) != 1 || got[0] != both[0] {
		t.Fatalf("after the rotation the file holds %v, want %s alone", names(got), both[0].Name)
	}
	r.run(t, "", 1, func(server *Server) {
		readable(t, server)
		count := stored(t, server)
		if count[old[0].Name] != 0 || count[both[0].Name] < someSecrets || len(count) != 1 {
			t.Errorf("etcd holds values of these keys: %v, want %s alone", count, both[0].Name)
		}
		history(t, server, old.prefix())
	})
}

// comeAndGo makes and deletes Secrets beside the rotation, which must not disturb it.
func comeAndGo(t *testing.T, server *Server) {
	t.Helper()
	secrets := kubernetes.NewForConfigOrDie(server.RESTConfig()).CoreV1().Secrets("default")
	for _, name := range []string{"a", "z"} {
		if err := secrets.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
		if _, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	}
}

// history fails when etcd still gives an old version of a Secret.
func history(t *testing.T, server *Server, prefix string) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.etcd.endpoint()}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	now, err := client.Get(t.Context(), secretsPrefix+"kept/s1")
	if err != nil || len(now.Kvs) != 1 {
		t.Fatal(err)
	}
	before, err := client.Get(t.Context(), secretsPrefix+"kept/s1", clientv3.WithRev(now.Kvs[0].ModRevision-1))
	if err == nil && len(before.Kvs) == 1 && bytes.HasPrefix(before.Kvs[0].Value, []byte(prefix)) {
		t.Error("etcd still holds the version that the old key encrypted")
	}
}
