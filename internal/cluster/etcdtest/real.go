package etcdtest

import (
	"context"
	"fmt"
	"hash/fnv"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cluster"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/step"
)

// Real is an etcd whose members run in this process, each on a loopback address of its own, with the certificates and
// ports that kubeadm would give them. Its hosts are fakes that forward to it.
type Real struct {
	// Connection reaches the members through their hosts.
	Connection *cluster.Connection
	// Addresses are those of the hosts cp1 to cp5.
	Addresses map[string]string
	// CA is that of etcd.
	CA *pki.CA

	t       *testing.T
	hosts   []string
	running map[string]*embed.Etcd
}

// vault is step.Secrets by key.
type vault map[string][]byte

func (v vault) Secret(_ context.Context, ref step.SecretRef) ([]byte, error) {
	value, ok := v[ref.Key]
	if !ok {
		return nil, fmt.Errorf("there is no secret %s", ref.Key)
	}
	return value, nil
}

// StartReal gives an etcd with the members cp1 to cp3. It ends with the test.
func StartReal(t *testing.T) *Real {
	t.Helper()
	ca, err := pki.NewCA("etcd-ca", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r := &Real{t: t, CA: ca, Addresses: map[string]string{}, running: map[string]*embed.Etcd{}}
	// Tests of other packages run at the same time.
	sum := fnv.New32a()
	fmt.Fprintf(sum, "%s %d", t.Name(), os.Getpid())
	sessions := fakehost.Sessions{}
	for i := range 5 {
		name := fmt.Sprintf("cp%d", i+1)
		address := fmt.Sprintf("127.%d.%d.%d", 100+sum.Sum32()%100, sum.Sum32()/100%200+1, i+1)
		h := fakehost.New(name, v1alpha1.HostFacts{})
		h.SetDialer(func(ctx context.Context, network, to string) (net.Conn, error) {
			port, ok := strings.CutPrefix(to, "127.0.0.1:")
			if !ok {
				return nil, fmt.Errorf("cannot dial %s: only the host itself", to)
			}
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(address, port))
		})
		r.Addresses[name], sessions[name] = address, h
		r.hosts = append(r.hosts, name)
	}
	secrets := vault{"ca": ca.CertPEM(), "key": ca.KeyPEM()}
	r.Connection = cluster.NewAccess(sessions, secrets, func(context.Context, string, string) (cluster.Address, error) {
		return cluster.Address{Hosts: r.hosts, Port: 6443, EtcdCACert: step.SecretRef{Key: "ca"}, EtcdCAKey: step.SecretRef{Key: "key"}}, nil
	}).Connection("dev", "demo")
	for _, name := range r.hosts[:3] {
		r.start(name, "new", r.hosts[:3])
	}
	r.ready(r.hosts[:3]...)
	return r
}

// Join starts the member of a host that was added to the others.
func (r *Real) Join(name string) {
	r.t.Helper()
	members, err := r.Connection.EtcdMembers(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	initial := []string{name}
	for _, m := range members {
		if m.Started() {
			initial = append(initial, m.Name)
		}
	}
	r.start(name, "existing", initial)
	r.ready(name)
}

// Retire takes a host from those of the cluster, as its spec does before the host is removed.
// etcd 3.7.3 panics when a member is asked for its status in the second between its removal and its end.
func (r *Real) Retire(name string) {
	r.hosts = slices.DeleteFunc(slices.Clone(r.hosts), func(h string) bool { return h == name })
}

// Stop ends the member of a host, if it runs.
func (r *Real) Stop(name string) {
	if e := r.running[name]; e != nil {
		e.Close()
		delete(r.running, name)
	}
}

func (r *Real) start(name, state string, initial []string) {
	r.t.Helper()
	c := embed.NewConfig()
	c.Name, c.Dir, c.ClusterState = name, r.t.TempDir(), state
	var all []string
	for _, n := range initial {
		all = append(all, n+"="+step.EtcdPeerURL(r.Addresses[n]))
	}
	c.InitialCluster, c.InitialClusterToken = strings.Join(all, ","), "demo"
	peer, client := url.URL{Scheme: "https", Host: net.JoinHostPort(r.Addresses[name], "2380")}, url.URL{Scheme: "https", Host: net.JoinHostPort(r.Addresses[name], "2379")}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	r.certificates(c, name)
	c.TickMs, c.ElectionMs = 50, 500
	c.EnableGRPCGateway = false
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	c.UnsafeNoFsync = true
	e, err := embed.StartEtcd(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.running[name] = e
	r.t.Cleanup(func() {
		if r.running[name] == e {
			r.Stop(name)
		}
	})
}

func (r *Real) ready(names ...string) {
	r.t.Helper()
	for _, name := range names {
		select {
		case <-r.running[name].Server.ReadyNotify():
		case err := <-r.running[name].Err():
			r.t.Fatal(err)
		case <-time.After(patience):
			r.t.Fatalf("etcd on %s is not ready in %s", name, patience)
		}
	}
}

// certificates gives a member those that kubeadm makes.
func (r *Real) certificates(c *embed.Config, name string) {
	r.t.Helper()
	directory := r.t.TempDir()
	write := func(file string, content []byte) string {
		path := filepath.Join(directory, file)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			r.t.Fatal(err)
		}
		return path
	}
	cert, key, err := r.CA.Issue(pki.Template{CommonName: name, DNSNames: []string{name, "localhost"},
		IPs: []net.IP{net.ParseIP(r.Addresses[name]), net.ParseIP("127.0.0.1"), net.IPv6loopback}})
	if err != nil {
		r.t.Fatal(err)
	}
	c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = write("server.crt", cert), write("server.key", key)
	c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = write("ca.crt", r.CA.CertPEM()), true
	c.PeerTLSInfo = c.ClientTLSInfo
}
