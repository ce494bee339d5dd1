// Package app owns the wiring: it is the only place that knows every part, and it is plain lists and calls.
// It must never hold behaviour that another package could have.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/blob"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/controlplane"
	"slipway.dev/slipway/internal/gateway"
	"slipway.dev/slipway/internal/host/ssh"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/secret"

	hostcontroller "slipway.dev/slipway/internal/controller/host"
	projectcontroller "slipway.dev/slipway/internal/controller/project"
)

// AdminKubeconfig is the file in the data directory that lets root on this machine in.
const AdminKubeconfig = "admin.kubeconfig"

// BundleDir is the directory of the bundle store below the data directory.
const BundleDir = "bundles"

// ServerOptions says how to run a server.
type ServerOptions struct {
	// DataDir holds everything the server keeps. It is made when missing.
	DataDir string
	// EncryptionKeyDir holds the key that encrypts Secrets; empty means keys below DataDir.
	EncryptionKeyDir string
	// Certificate is the organisation's own; the zero value means none.
	Certificate pki.CertificateFiles
	// Bundles is the bundle store; default BundleDir below DataDir.
	Bundles string
	// Listen is the address of the one TLS port, HOST:PORT.
	Listen string
	// Names are more names and addresses by which people reach the server.
	Names []string
	// Version is that of this binary.
	Version string
	Log     *slog.Logger
	// Ready is called once the server answers.
	Ready func(url string)
	// Trust is called after Ready with the fingerprints of the certificate authorities that clients must trust.
	Trust func(fingerprints []string)
	// SetUp is called after Ready, with the one-time link by which admin gets a password, while there is none. It must
	// show the link to the person who started the server, and to nobody else.
	SetUp func(link string)
}

// Scheme knows Kubernetes' own kinds and ours.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("cannot make the scheme: %w", err)
		}
	}
	return scheme, nil
}

// RunServer runs a server until ctx ends, and then stops it cleanly.
func RunServer(ctx context.Context, o ServerOptions) (err error) {
	if os.Getenv("GOGC") == "" {
		// Most of the heap are objects that the API server keeps: room for a second copy of them all is never used.
		debug.SetGCPercent(40)
	}
	utilruntime.ReallyCrash = false // One request must never end the whole server.
	unprintable := &secret.Set{}
	o.Log = slog.New(unprintable.Handler(o.Log.Handler()))
	ctrl.SetLogger(logr.FromSlogHandler(o.Log.Handler()))
	crds, err := crds()
	if err != nil {
		return err
	}
	// The control plane first: it owns the lock of the data directory, opens the audit log under it and closes that last.
	var trail *audit.Log
	plane, err := controlplane.Start(ctx, controlplane.Config{OpenAudit: func() (_ controlplane.AuditLog, err error) {
		trail, err = openAudit(o.DataDir, o.Version, o.Log)
		return quietAudit{trail, unprintable}, err
	}, DataDir: o.DataDir, EncryptionKeyDir: o.EncryptionKeyDir, Version: o.Version, CRDs: crds, Logger: o.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Stop(context.WithoutCancel(ctx))) }()
	port, err := gateway.Listen(ctx, gateway.PortConfig{
		Address: o.Listen, DataDir: o.DataDir, Certificate: o.Certificate, Names: o.Names, MoreNames: platformNames(ctx, plane.RESTConfig(), o.Log), Logger: o.Log,
	})
	if err != nil {
		return err
	}
	admin, err := auth.LoadAdminToken(o.DataDir)
	if err != nil {
		return errors.Join(err, port.Close())
	}
	if err := gateway.WriteKubeconfig(filepath.Join(o.DataDir, AdminKubeconfig), port.URL(), port.CACert(), "admin", admin.Token()); err != nil {
		return errors.Join(err, port.Close())
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-plane.Done():
			stop(errors.Join(errors.New("the control plane ended"), plane.Err()))
		case <-ctx.Done():
		}
	}()
	s, err := newServer(ctx, o, plane.RESTConfig(), port, unprintable, quietAudit{trail, unprintable})
	if err != nil {
		return errors.Join(err, port.Close())
	}
	defer func() { err = errors.Join(err, s.pool.Close()) }()
	people := newPeople(s.live, admin, port.CACert, o.Log)
	long := gateway.NewLong(gateway.LongDeps{Authenticators: people.authenticators, Client: s.live, Log: o.Log})
	if err := watchRights(ctx, s.manager.GetCache(), long.Changed); err != nil {
		return errors.Join(err, port.Close())
	}
	front := &door{
		people: people, live: s.live, cache: s.manager.GetClient(), long: long, upstream: plane.GatewayConfig(),
		blobs: s.blobs, bundles: s.bundles, audit: s.audit, trail: trail, log: o.Log,
		cluster: func(ctx context.Context, project, name string) (*rest.Config, error) {
			return s.clusters.Connection(project, name).Config(ctx)
		},
		ready: map[string]func(context.Context) error{"apiserver": plane.Ready, "audit": trail.Ready},
	}
	handler, err := front.handler()
	if err != nil {
		return errors.Join(err, port.Close())
	}
	setup, err := people.setupLink(ctx, port.Addr(), o.Names)
	if err != nil {
		return errors.Join(err, port.Close())
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return port.Serve(ctx, handler) })
	group.Go(func() error { return s.manager.Start(ctx) })
	group.Go(func() error { return trail.Retain(ctx, auditDays(s.live)) })
	group.Go(func() error {
		long.Run(ctx)
		return nil
	})
	group.Go(func() error {
		auth.Sweep(ctx, s.live, o.Log)
		return nil
	})
	if o.Ready != nil {
		o.Ready(port.URL())
	}
	if o.Trust != nil {
		o.Trust(fingerprints(port.CACert()))
	}
	if setup != "" && o.SetUp != nil {
		o.SetUp(setup)
	}
	err = group.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(err, cause)
	}
	return err
}

// parts is what a running server is made of, beside the control plane and its port.
type parts struct {
	manager ctrl.Manager
	// live talks to the API itself, past every cache.
	live client.WithWatch
	pool *ssh.Pool
	// clusters reaches the managed clusters.
	clusters *cluster.Access
	blobs    *blob.Directory
	bundles  *bundle.Store
	audit    audit.Recorder
	// scratch is a directory for what must not outlive its use.
	scratch string
	// version is that of this binary.
	version string
	// unprintable knows every secret value.
	unprintable *secret.Set
}

func newServer(ctx context.Context, o ServerOptions, config *rest.Config, port *gateway.Port, unprintable *secret.Set, recorder audit.Recorder) (*parts, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	s := &parts{unprintable: unprintable, audit: recorder, version: o.Version}
	if s.live, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("cannot make the platform client: %w", err)
	}
	owner, err := prepareStore(ctx, s.live)
	if err != nil {
		return nil, err
	}
	// Before the port is served: nobody may meet an API without rules.
	if err := access.Apply(ctx, s.live); err != nil {
		return nil, err
	}
	if err := projectcontroller.First(ctx, s.live, o.Log); err != nil {
		return nil, err
	}
	if s.bundles, err = bundle.Open(cmp.Or(o.Bundles, filepath.Join(o.DataDir, BundleDir))); err != nil {
		return nil, err
	}
	if s.blobs, err = blob.Dir(filepath.Join(o.DataDir, "blobs")); err != nil {
		return nil, err
	}
	if s.scratch, err = scratch(o.DataDir, o.Log); err != nil {
		return nil, err
	}
	s.manager, err = ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Metrics: server.Options{BindAddress: "0"},
		// The list of controllers keeps their names apart; one process may run one server after another.
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
		Cache: cache.Options{
			ByObject:         hostcontroller.CacheByObject(),
			DefaultTransform: cache.TransformStripManagedFields(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot make the controllers' manager: %w", err)
	}
	s.pool = ssh.NewPool(hostcontroller.Resolver(learningReader{s.manager.GetClient(), unprintable}))
	s.pool.Login = hostcontroller.Logins(recorder)
	if err := learnSecrets(ctx, s.manager.GetCache(), unprintable); err != nil {
		return nil, err
	}
	platform, err := platform(port)
	if err != nil {
		return nil, err
	}
	return s, addControllers(ctx, s, owner, platform, o.Log)
}

// platformNames gives the address in Setting platform, by which hosts reach the server.
func platformNames(ctx context.Context, config *rest.Config, log *slog.Logger) func() []string {
	scheme, err := Scheme()
	if err != nil {
		return nil // newServer fails with the same error and says so.
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil // As above.
	}
	return func() []string {
		var setting v1alpha1.Setting
		err := c.Get(ctx, client.ObjectKey{Name: v1alpha1.SettingPlatform}, &setting)
		if err != nil {
			if !apierrors.IsNotFound(err) && ctx.Err() == nil {
				log.Warn("cannot read Setting platform for the serving certificate", "error", err)
			}
			return nil
		}
		if p := setting.Spec.Platform; p != nil && p.Address != "" {
			return []string{p.Address}
		}
		return nil
	}
}

// prepareStore makes the namespaces that Slipway needs, and gives the identity of this installation:
// it lives with the data, so a restored or moved server is still the one that its hosts know.
func prepareStore(ctx context.Context, c client.Client) (string, error) {
	for _, name := range []string{v1alpha1.SystemNamespace, metav1.NamespaceDefault} {
		err := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return "", fmt.Errorf("cannot make namespace %s: %w", name, err)
		}
	}
	var system corev1.Namespace
	if err := c.Get(ctx, client.ObjectKey{Name: v1alpha1.SystemNamespace}, &system); err != nil {
		return "", fmt.Errorf("cannot read namespace %s: %w", v1alpha1.SystemNamespace, err)
	}
	return string(system.UID), nil
}

// reach gives the address of this machine that a host at the given address sees, with our port.
func reach(port string) func(string) (string, error) {
	return func(host string) (string, error) {
		address, err := netip.ParseAddr(host)
		if err != nil {
			return "", fmt.Errorf("cannot tell how host %s reaches the server: %w", host, err)
		}
		// A connected UDP socket sends nothing; it only asks the kernel for the route.
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 9)))
		if err != nil {
			return "", fmt.Errorf("cannot tell how host %s reaches the server: %w", host, err)
		}
		defer conn.Close()
		local := conn.LocalAddr().(*net.UDPAddr)
		return net.JoinHostPort(local.IP.String(), port), nil
	}
}

func portNumber(port *gateway.Port) (string, int, error) {
	_, text, err := net.SplitHostPort(port.Addr().String())
	if err != nil {
		return "", 0, fmt.Errorf("cannot read the server's port: %w", err)
	}
	number, err := strconv.Atoi(text)
	if err != nil {
		return "", 0, fmt.Errorf("cannot read the server's port: %w", err)
	}
	return text, number, nil
}

// machineID gives this machine's identity, or "" where it has none.
func machineID() string {
	b, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
