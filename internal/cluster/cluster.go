// Package cluster owns how Slipway talks to the clusters it manages: over SSH to a control plane,
// with a short-lived certificate that it issues itself.
// It must never use an admin.conf from a host, nor keep a client certificate longer than an hour.
package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/step"
)

const (
	// certificateLife is how long a client certificate of ours is valid; it is renewed at half of that.
	certificateLife = time.Hour
	// requestTimeout bounds one request; a watch has no bound.
	requestTimeout = 20 * time.Second
	// serverName is in the certificate of every API server that kubeadm makes.
	serverName = "kubernetes.default.svc"
)

// Address says where a cluster's API servers are and which keys they trust.
type Address struct {
	// Hosts names the hosts of the control plane.
	Hosts []string
	// Port is where each API server listens.
	Port int32
	// CACert and CAKey point to the cluster's certificate authority, EtcdCACert and EtcdCAKey to that of its etcd.
	CACert, CAKey, EtcdCACert, EtcdCAKey step.SecretRef
}

// Locate finds the address of a cluster; it fails when there is no such cluster.
type Locate func(ctx context.Context, namespace, name string) (Address, error)

// Access opens connections to clusters and keeps them. It is safe for concurrent use.
type Access struct {
	sessions host.Sessions
	secrets  step.Secrets
	locate   Locate

	mu    sync.Mutex
	known map[string]*Connection
}

// NewAccess gives an Access that has no connection yet.
func NewAccess(sessions host.Sessions, secrets step.Secrets, locate Locate) *Access {
	return &Access{sessions: sessions, secrets: secrets, locate: locate, known: map[string]*Connection{}}
}

// Connection gives the connection to a cluster. Nothing is dialled before it is used.
func (a *Access) Connection(namespace, name string) *Connection {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := namespace + "/" + name
	c, ok := a.known[key]
	if !ok {
		c = &Connection{access: a, namespace: namespace, name: name}
		a.known[key] = c
	}
	return c
}

// Forget drops the connection to a cluster that is gone or whose keys changed.
func (a *Access) Forget(namespace, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, namespace+"/"+name)
}

// Connection talks to one cluster. It implements step.ClusterReader and step.ClusterWriter.
type Connection struct {
	access          *Access
	namespace, name string

	mu      sync.Mutex
	client  client.WithWatch
	config  *rest.Config
	address Address
	made    time.Time
	// etcdConfig holds the client certificate for etcd, made at etcdMade.
	etcdConfig *tls.Config
	etcdMade   time.Time
}

// Client gives a client with a certificate that is good for half an hour at least.
func (c *Connection) Client(ctx context.Context) (client.WithWatch, error) {
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client, nil
}

// Config gives the REST configuration behind Client, for tools that need their own.
func (c *Connection) Config(ctx context.Context) (*rest.Config, error) {
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return rest.CopyConfig(c.config), nil
}

func (c *Connection) open(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil && time.Since(c.made) < certificateLife/2 {
		return nil
	}
	address, err := c.access.locate(ctx, c.namespace, c.name)
	if err != nil {
		return fmt.Errorf("cannot find cluster %s/%s: %w", c.namespace, c.name, err)
	}
	if len(address.Hosts) == 0 {
		return fmt.Errorf("cannot connect to cluster %s/%s: it has no control plane", c.namespace, c.name)
	}
	config, err := c.credentials(ctx, address)
	if err != nil {
		return fmt.Errorf("cannot connect to cluster %s/%s: %w", c.namespace, c.name, err)
	}
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return fmt.Errorf("cannot connect to cluster %s/%s: %w", c.namespace, c.name, err)
	}
	kube, err := client.NewWithWatch(config, client.Options{Scheme: scheme.Scheme, HTTPClient: httpClient})
	if err != nil {
		return fmt.Errorf("cannot connect to cluster %s/%s: %w", c.namespace, c.name, err)
	}
	c.address, c.config, c.client, c.made = address, config, kube, time.Now()
	return nil
}

func (c *Connection) credentials(ctx context.Context, address Address) (*rest.Config, error) {
	caCert, err := c.access.secrets.Secret(ctx, address.CACert)
	if err != nil {
		return nil, fmt.Errorf("cannot read its certificate authority: %w", err)
	}
	caKey, err := c.access.secrets.Secret(ctx, address.CAKey)
	if err != nil {
		return nil, fmt.Errorf("cannot read its certificate authority: %w", err)
	}
	ca, err := pki.ParseCA(caCert, caKey)
	if err != nil {
		return nil, fmt.Errorf("cannot use its certificate authority: %w", err)
	}
	cert, key, err := ca.Issue(pki.Template{
		CommonName: "slipway", Organization: []string{"system:masters"}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, ValidFor: certificateLife,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot issue a client certificate: %w", err)
	}
	return &rest.Config{
		Host: "https://" + net.JoinHostPort(serverName, strconv.Itoa(int(address.Port))),
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return c.dial(ctx, network, address)
		},
		TLSClientConfig: rest.TLSClientConfig{ServerName: serverName, CAData: caCert, CertData: cert, KeyData: key},
		UserAgent:       "slipway",
		QPS:             -1,
		WarningHandler:  rest.NoWarnings{},
	}, nil
}

// dial reaches the first control plane that answers, from the host itself: its API server may listen nowhere else for us.
func (c *Connection) dial(ctx context.Context, network string, address Address) (net.Conn, error) {
	var failures []error
	for _, name := range address.Hosts {
		conn, err := c.dialHost(ctx, network, name, address.Port)
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

func (c *Connection) dialHost(ctx context.Context, network, name string, port int32) (net.Conn, error) {
	session, err := c.access.sessions.Session(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("cannot reach host %s: %w", name, err)
	}
	conn, err := session.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return nil, fmt.Errorf("cannot reach the API server on %s: %w", name, err)
	}
	return conn, nil
}

// Ready asks /readyz of the API server on the named host.
func (c *Connection) Ready(ctx context.Context, name string) error {
	_, err := c.Ask(ctx, name, "/readyz")
	return err
}

// maxAnswer bounds what Ask reads, in bytes: the metrics of a large cluster are the longest answer.
const maxAnswer = 64 << 20

// Ask gives what the API server on the named host answers at a path.
func (c *Connection) Ask(ctx context.Context, name, path string) ([]byte, error) {
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	config, port := rest.CopyConfig(c.config), c.address.Port
	c.mu.Unlock()
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the API server on %s: %w", name, err)
	}
	// A transport of its own: client-go would keep each one that dials differently for ever.
	transport := &http.Transport{
		TLSClientConfig:   tlsConfig,
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return c.dialHost(ctx, network, name, port)
		},
	}
	httpClient := &http.Client{Transport: transport, Timeout: requestTimeout}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+path, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the API server on %s: %w", name, err)
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the API server on %s: %w", name, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the API server on %s answers %s", name, response.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("cannot read the answer of the API server on %s: %w", name, err)
	}
	return answer, nil
}

// Get reads one object.
func (c *Connection) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	return c.do(ctx, func(ctx context.Context, k client.WithWatch) error { return k.Get(ctx, key, o, opts...) })
}

// List reads objects.
func (c *Connection) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	return c.do(ctx, func(ctx context.Context, k client.WithWatch) error { return k.List(ctx, list, opts...) })
}

// Apply applies on the server's side.
func (c *Connection) Apply(ctx context.Context, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	return c.do(ctx, func(ctx context.Context, k client.WithWatch) error { return k.Apply(ctx, o, opts...) })
}

// Delete deletes one object; one that is gone is fine.
func (c *Connection) Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	return c.do(ctx, func(ctx context.Context, k client.WithWatch) error {
		return client.IgnoreNotFound(k.Delete(ctx, o, opts...))
	})
}

// Patch changes an object that exists.
func (c *Connection) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.PatchOption) error {
	return c.do(ctx, func(ctx context.Context, k client.WithWatch) error { return k.Patch(ctx, o, p, opts...) })
}

// Evict asks for a pod to go; one that is gone is fine.
func (c *Connection) Evict(ctx context.Context, namespace, pod string, gracePeriod *int64) error {
	name := metav1.ObjectMeta{Namespace: namespace, Name: pod}
	eviction := &policyv1.Eviction{ObjectMeta: name, DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: gracePeriod}}
	return c.do(ctx, func(ctx context.Context, k client.WithWatch) error {
		return client.IgnoreNotFound(k.SubResource("eviction").Create(ctx, &corev1.Pod{ObjectMeta: name}, eviction))
	})
}

// do bounds one request, and classes what may go away by itself as Transient.
func (c *Connection) do(ctx context.Context, request func(context.Context, client.WithWatch) error) error {
	k, err := c.Client(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err = request(ctx, k)
	if err == nil || isFinal(err) {
		return err
	}
	return fault.NewTransient("APIUnreachable", err)
}

// isFinal says whether the API server itself has answered, and would answer the same again.
func isFinal(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return fault.ReasonOf(err) != "Failed" // Classified further in: an SSH login that was refused stays that.
	}
	if apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause) {
		return true // Too many requests too, but it is the budget that says so.
	}
	code := status.Status().Code
	return code != 0 && code < http.StatusInternalServerError && code != http.StatusTooManyRequests && code != http.StatusForbidden && code != http.StatusUnauthorized
}
