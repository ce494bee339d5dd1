package clusterproxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/gateway"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/kubeadm"
)

const (
	base      = "/slipway/v1/projects/dev/clusters/demo"
	throughIt = base + "/proxy"
)

// person lets in whoever a bearer token names; oidc: people have a directory group.
type person struct{}

func (person) Authenticate(r *http.Request) (user.Info, bool, error) {
	name, ok := auth.Bearer(r)
	who := &user.DefaultInfo{Name: name, UID: "7", Groups: []string{user.AllAuthenticated, access.SystemAdministrators}, Extra: map[string][]string{gateway.ViaKey: {"token:t1"}}}
	if strings.HasPrefix(name, "oidc:") {
		who.Groups = append(who.Groups, "oidc:devs", "oidc:system:masters")
	}
	if name == "looker" {
		who.Extra["slipway.dev/read-only"] = []string{"true"}
	}
	return who, ok, nil
}

// chronicle is an audit log in memory.
type chronicle struct {
	mu     sync.Mutex
	events []audit.Event
}

func (l *chronicle) Record(e audit.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *chronicle) all() []audit.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events
}

// world is a gateway before one managed cluster, whose API server stands behind a host.
type world struct {
	t      *testing.T
	client client.WithWatch
	ca     *pki.CA
	front  *httptest.Server
	host   *fakehost.Host
	log    *chronicle
	long   *gateway.Long
	minted []auth.TokenRequest

	mu sync.Mutex
	// may says what RBAC answers, by person and verb; a person who is not there may nothing.
	may map[string][]string
	// last is the last request that the cluster saw.
	last *http.Request
	// answer is what the cluster does; nil answers 200.
	answer http.HandlerFunc
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, log: &chronicle{}, host: fakehost.New("cp1", v1alpha1.HostFacts{}),
		may: map[string][]string{
			"alice": {"view", "administer", "create kubeconfig", "create breakglass"}, "oidc:bob@corp": {"view", "create kubeconfig"}, "looker": {"view", "administer"},
		}}
	var err error
	if w.ca, err = pki.NewCA("kubernetes", 10*365*24*time.Hour); err != nil {
		t.Fatal(err)
	}
	apiServer := w.apiServer()
	w.host.SetDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != "127.0.0.1:6443" {
			return nil, fmt.Errorf("%s was dialled", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, apiServer.Listener.Addr().String())
	})
	w.client = w.platform()
	secrets := func(ctx context.Context, ref step.SecretRef) ([]byte, error) {
		var s corev1.Secret
		err := w.client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: ref.Name}, &s)
		return s.Data[ref.Key], err
	}
	clusters := cluster.NewAccess(fakehost.Sessions{"cp1": w.host}, vault(secrets), func(context.Context, string, string) (cluster.Address, error) {
		return cluster.Address{Hosts: []string{"cp1"}, Port: 6443, CACert: step.SecretRef{Name: "cluster-demo", Key: kubeadm.CACert}, CAKey: step.SecretRef{Name: "cluster-demo", Key: kubeadm.CAKey}}, nil
	})
	authorizer := access.NewAuthorizer(w.client)
	w.long = gateway.NewLong(gateway.LongDeps{Authenticators: []gateway.Authenticator{person{}}, Client: w.client})
	routes, err := gateway.NewRoutes(gateway.RouteDeps{Access: authorizer, Audit: w.log, Long: w.long}, Routes(Deps{
		Client: w.client, Access: authorizer, Tokens: w, CA: func() []byte { return []byte("the platform's authority") },
		Config: func(ctx context.Context, project, name string) (*rest.Config, error) {
			return clusters.Connection(project, name).Config(ctx)
		},
	})...)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := gateway.NewHandler(gateway.Config{Upstream: &rest.Config{Host: "https://127.0.0.1:1"}, Authenticators: []gateway.Authenticator{person{}}, Routes: routes, Long: w.long})
	if err != nil {
		t.Fatal(err)
	}
	w.front = httptest.NewUnstartedServer(handler)
	w.front.EnableHTTP2 = true
	w.front.StartTLS()
	t.Cleanup(w.front.Close)
	return w
}

type vault func(context.Context, step.SecretRef) ([]byte, error)

func (v vault) Secret(ctx context.Context, ref step.SecretRef) ([]byte, error) { return v(ctx, ref) }

// apiServer is a cluster's API server, which takes no one but who has a certificate of the cluster's authority.
func (w *world) apiServer() *httptest.Server {
	w.t.Helper()
	certificate, key, err := w.ca.Issue(pki.Template{CommonName: "kube-apiserver", DNSNames: []string{"kubernetes.default.svc"}})
	if err != nil {
		w.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		w.t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(w.ca.CertPEM())
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(response http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.last = r
		answer := w.answer
		w.mu.Unlock()
		if answer != nil {
			answer(response, r)
		}
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: trusted, ClientAuth: tls.RequireAndVerifyClientCert}
	server.EnableHTTP2 = true
	server.StartTLS()
	w.t.Cleanup(server.Close)
	return server
}

// platform is the platform's API: clusters and what RBAC says.
func (w *world) platform() client.WithWatch {
	w.t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, clientgoscheme.AddToScheme} {
		if err := add(scheme); err != nil {
			w.t.Fatal(err)
		}
	}
	named := func(project, name, endpoint string) *v1alpha1.Cluster {
		return &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: project, Name: name, UID: "uid-1"}, Status: v1alpha1.ClusterStatus{Endpoint: endpoint}}
	}
	keys := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "cluster-demo", Labels: map[string]string{cluster.LabelProject: "dev"}},
		Data: map[string][]byte{kubeadm.CACert: w.ca.CertPEM(), kubeadm.CAKey: w.ca.KeyPEM()}}
	return clientfake.NewClientBuilder().WithScheme(scheme).
		WithObjects(named("dev", "demo", "https://10.9.0.11:6443"), named("dev", "new", ""), named("ops", "demo", "https://10.9.0.11:6443"), keys).
		WithInterceptorFuncs(interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			review, ok := o.(*authorizationv1.SubjectAccessReview)
			if !ok {
				return c.Create(ctx, o, opts...)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			what := review.Spec.ResourceAttributes
			if what.Group != v1alpha1.Group || what.Resource != "clusters" || what.Namespace == "" || what.Name == "" {
				return fmt.Errorf("RBAC was asked about %+v", what)
			}
			for _, verb := range w.may[review.Spec.User] {
				if verb == what.Verb && what.Subresource == "proxy" || verb == what.Verb+" "+what.Subresource {
					review.Status.Allowed = true
				}
			}
			return nil
		}}).Build()
}

// Mint is the tokens' part.
func (w *world) Mint(_ context.Context, who user.Info, request auth.TokenRequest) (*auth.Token, error) {
	if request.Life > 90*24*time.Hour {
		return nil, errors.New("too long")
	}
	w.minted = append(w.minted, request)
	return &auth.Token{ID: "t2", Secret: "slp_t2_" + who.GetName(), Expires: time.Now().Add(request.Life)}, nil
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) seen() *http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// open sends a request; the caller closes the body.
func (w *world) open(who, method, path, body string) *http.Response {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.front.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+who)
	response, err := w.front.Client().Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	return response
}

// ask sends a request and gives the code and the whole body.
func (w *world) ask(who, method, path, body string) (int, string) {
	w.t.Helper()
	response := w.open(who, method, path, body)
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

// raw sends a request as it is, since a Go client would repair some, and gives its answer and the connection.
func (w *world) raw(request string) (*http.Response, *bufio.Reader, net.Conn) {
	w.t.Helper()
	conn, err := tls.Dial("tcp", w.front.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		w.t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return response, reader, conn
}
