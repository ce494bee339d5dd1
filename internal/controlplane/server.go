package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"slipway.dev/slipway/internal/pki"
)

const (
	// startTime bounds how long the API server may take to be ready and to serve every CRD.
	startTime = 2 * time.Minute
	// stopGrace bounds how long each part may take to stop before Stop goes on without it.
	stopGrace = 15 * time.Second
)

// Config says what to start.
type Config struct {
	// DataDir is the directory that everything is kept in; it is created (mode 700) when missing.
	DataDir string
	// EncryptionKeyDir holds the key that encrypts Secrets; empty means DataDir/keys. It may lie on another disk, so
	// that the data alone opens no Secret. It must stay the same, or move with its file.
	EncryptionKeyDir string
	// Version is the semantic version of this binary. Data written by a newer one is refused, and data
	// written by an older one is copied to DataDir/snapshots before it is opened. Empty means 0.0.0.
	Version string
	// CRDs are applied and Established before Start returns.
	CRDs []*apiextensionsv1.CustomResourceDefinition
	// OpenAudit is called when the data directory is held, and gives where what is done through the API is recorded. The
	// log is closed when the API server has ended, before the directory is released. Nil means that nothing is recorded.
	OpenAudit func() (AuditLog, error)
	// Logger receives what this package has to say; what Kubernetes and etcd log goes there too, one level
	// lower, so that only their warnings show at the usual level. Nil means silence.
	Logger *slog.Logger

	// rotationEdge is where tests let a rotation of the encryption key crash.
	rotationEdge func(point string)
}

// Server is a running control plane.
type Server struct {
	config  *rest.Config
	gateway *rest.Config
	health  rest.Interface
	etcd    *store
	lock    *dataLock
	audit   AuditLog

	stopControllers context.CancelFunc
	stopAPI         context.CancelFunc
	controllers     sync.WaitGroup
	serving         bool
	apiDone         chan struct{}

	stopping atomic.Bool
	stopOnce sync.Once
	stopErr  error
	done     chan struct{}
	mu       sync.Mutex
	err      error
}

// Start opens the data directory and runs etcd, the API server and Kubernetes' own controllers in this
// process. It returns when the API server is ready and every CRD is served. A data directory in use by
// another process, or written by a newer version, is refused. The context bounds starting only; call Stop to
// end a started server. One process can run one server at a time.
func Start(ctx context.Context, config Config) (*Server, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	lock, err := openDataDir(config.DataDir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, apiDone: make(chan struct{}), done: make(chan struct{})}
	if err := s.start(ctx, config); err != nil {
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	go s.watch(context.WithoutCancel(ctx))
	return s, nil
}

func (s *Server) start(ctx context.Context, config Config) error {
	routeLogs(config.Logger, &s.stopping, s.fatal)
	if err := admitVersion(ctx, config.DataDir, config.Version, config.Logger); err != nil {
		return err
	}
	files, err := loadFiles(config.DataDir, config.EncryptionKeyDir)
	if err != nil {
		return err
	}
	if config.OpenAudit != nil {
		log, err := config.OpenAudit()
		if err != nil {
			return err
		}
		s.audit = log
	}
	logger := zapLogger(context.WithoutCancel(ctx), config.Logger, &s.stopping)
	if s.etcd, err = startStore(ctx, filepath.Join(config.DataDir, "etcd"), files.runDir, logger); err != nil {
		return err
	}
	// The running parts outlive the context of starting and end in Stop, in this order: controllers, API, etcd.
	running := context.WithoutCancel(ctx)
	var apiContext, controllerContext context.Context
	apiContext, s.stopAPI = context.WithCancel(running)
	controllerContext, s.stopControllers = context.WithCancel(running)

	gatewayToken := pki.NewToken()
	published := make(chan struct{})
	api, err := newAPIServer(apiContext, files, s.etcd.endpoint(), gatewayToken, s.audit, published)
	if err != nil {
		return err
	}
	s.config = loopbackConfig(api.GenericAPIServer.LoopbackClientConfig)
	s.gateway = rest.CopyConfig(s.config)
	s.gateway.BearerToken = gatewayToken
	client, err := discovery.NewDiscoveryClientForConfig(s.config)
	if err != nil {
		return fmt.Errorf("cannot reach the API server: %w", err)
	}
	s.health = client.RESTClient()
	if err := s.serve(apiContext, api); err != nil {
		return err
	}
	timed, cancelTimed := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("the API server was not ready in %s", startTime))
	defer cancelTimed()
	starting, cancel := context.WithCancelCause(timed)
	defer cancel(nil)
	go func() {
		select {
		case <-s.apiDone:
			cancel(fmt.Errorf("the API server ended while starting: %w", s.Err()))
		case <-starting.Done():
		}
	}()
	if err := s.makeReady(starting, config.CRDs); err != nil {
		if cause := context.Cause(starting); cause != nil {
			err = errors.Join(err, cause)
		}
		return err
	}
	if err := s.startRotation(controllerContext, files, config.Logger, config.rotationEdge); err != nil {
		return err
	}
	close(published)
	return startControllers(controllerContext, &s.controllers, s.RESTConfig())
}

// RESTConfig gives a client configuration for the loopback API as system:masters. Each call gives a copy; it
// has no client-side rate limit and sends JSON, as custom resources need. It is for this process only: the
// credential changes at every start and must never be handed out.
func (s *Server) RESTConfig() *rest.Config { return rest.CopyConfig(s.config) }

// GatewayConfig is RESTConfig with the gateway's own credential. It may do everything as well, but the audit
// log tells its requests, which carry the person they are for, from those of this process.
func (s *Server) GatewayConfig() *rest.Config { return rest.CopyConfig(s.gateway) }

// Ready asks the API server whether it is ready, its connection to etcd included. It gives nil when so.
func (s *Server) Ready(ctx context.Context) error {
	if err := s.health.Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return fmt.Errorf("API server is not ready: %w", err)
	}
	return nil
}

// Alarms names what etcd has raised an alarm about, NOSPACE when its quota is reached; none when all is well.
func (s *Server) Alarms() []string {
	var names []string
	for _, alarm := range s.etcd.etcd.Server.Alarms() {
		names = append(names, alarm.Alarm.String())
	}
	return names
}

// Done is closed when the control plane has ended, asked or not.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says why the control plane ended by itself; nil while it runs and after a plain Stop.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Stop ends controllers, API server and etcd in that order and releases the data directory. It may be called
// more than once; every call waits for the end. What was acknowledged before stays on disk.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		defer close(s.done)
		s.stopping.Store(true)
		var problems []error
		if s.stopControllers != nil {
			s.stopControllers()
			problems = append(problems, waitFor(ctx, "controllers", s.controllers.Wait))
		}
		if s.stopAPI != nil {
			s.stopAPI()
			if s.serving {
				problems = append(problems, waitFor(ctx, "API server", func() { <-s.apiDone }))
			}
		}
		if s.etcd != nil {
			problems = append(problems, waitFor(ctx, "etcd", s.etcd.close))
		}
		if s.audit != nil {
			problems = append(problems, s.audit.Close())
		}
		problems = append(problems, s.lock.release())
		s.stopErr = errors.Join(problems...)
	})
	return s.stopErr
}

// watch ends everything when one part ends by itself: half a control plane must not go on.
func (s *Server) watch(ctx context.Context) {
	select {
	case <-s.done:
	case <-s.apiDone:
	case err := <-s.etcd.failed():
		s.fail(fmt.Errorf("etcd ended: %w", err))
	}
	select {
	case <-s.done:
	default:
		// Each part has its own limit, so this ends.
		s.fail(s.Stop(ctx))
	}
}

// fatal ends the API server because of a part of it; the rest follows.
func (s *Server) fatal(reason string) {
	if s.stopping.Load() {
		return
	}
	s.fail(fmt.Errorf("API server cannot go on: %s", reason))
	s.stopAPI()
}

func (s *Server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func waitFor(ctx context.Context, what string, wait func()) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		wait()
	}()
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-ended:
		return nil
	case <-timer.C:
		return fmt.Errorf("cannot stop %s: it did not end in %s", what, stopGrace)
	case <-ctx.Done():
		return fmt.Errorf("cannot stop %s: %w", what, ctx.Err())
	}
}
