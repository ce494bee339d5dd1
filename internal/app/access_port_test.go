package app

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/blob"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/gateway"
)

// The kinds of people of the table, each a column. Those who are no one come first. Every request is about project dev.
const (
	asNobody   = "anonymous"
	asDisabled = "disabled user" // A system administrator with a token that was good.
	asExpired  = "expired token" // Of a system administrator.
	asStranger = "other project" // The administrator of project ops.
	asReader   = "read-only"
	asOperator = "cluster administrator"
	asOwner    = "project administrator"
	asAuditor  = "auditor"
	asSystem   = "system administrator"
	asRoot     = "admin token"
)

func tableColumns() []string {
	return []string{asNobody, asDisabled, asExpired, asStranger, asReader, asOperator, asOwner, asAuditor, asSystem, asRoot}
}

// tableLoggedIn gives the columns of those who are somebody.
func tableLoggedIn() []string { return tableColumns()[3:] }

// columnUsers gives the names of the people's Users, but for the admin token, which is kept on the server.
func columnUsers() map[string]string {
	return map[string]string{asDisabled: "dora", asExpired: "xenia", asStranger: otto, asReader: rita, asOperator: cleo, asOwner: paul, asAuditor: ada, asSystem: sam}
}

const tablePassword = "correct horse battery staple 9"

// accessPort is a real port before the API of an accessWorld, with the routes of RunServer.
type accessPort struct {
	*accessWorld
	door  *door
	url   string
	roots *x509.CertPool
	admin *auth.AdminToken
	users map[string]*v1alpha1.User
	// kinds is what the API serves.
	kinds []servedKind
	// kept holds the token that each column uses.
	kept    map[string]string
	clients map[string]*http.Client
	// mu guards asked, the requests from no one, and far, the address that makes them: each may make few.
	mu    sync.Mutex
	asked int
	far   *http.Client
}

func (w *accessWorld) port(t *testing.T) *accessPort {
	t.Helper()
	directory := t.TempDir()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	port, err := gateway.Listen(t.Context(), gateway.PortConfig{Address: "127.0.0.1:0", DataDir: directory})
	if err != nil {
		t.Fatal(err)
	}
	p := &accessPort{accessWorld: w, url: port.URL(), roots: x509.NewCertPool(), users: map[string]*v1alpha1.User{}, kept: map[string]string{}, clients: map[string]*http.Client{}}
	p.roots.AppendCertsFromPEM(port.CACert())
	if p.admin, err = auth.LoadAdminToken(directory); err != nil {
		t.Fatal(err)
	}
	bundles, err := bundle.Open(filepath.Join(directory, BundleDir))
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Dir(filepath.Join(directory, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	trail, err := openAudit(directory, "1.2.3", log)
	if err != nil {
		t.Fatal(err)
	}
	people := newPeople(w.server, p.admin, port.CACert, log)
	p.door = &door{
		people: people, live: w.server, cache: w.server, upstream: w.front, blobs: blobs, bundles: bundles, audit: trail, trail: trail, log: log,
		long:    gateway.NewLong(gateway.LongDeps{Authenticators: people.authenticators, Client: w.server, Log: log}),
		cluster: managedCluster(t), ready: map[string]func(context.Context) error{"audit": trail.Ready},
	}
	handler, err := p.door.handler()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- port.Serve(ctx, handler) }()
	t.Cleanup(func() {
		for _, c := range p.clients {
			c.CloseIdleConnections()
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := trail.Close(); err != nil {
			t.Error(err)
		}
	})
	p.populate(t)
	return p
}

// populate makes the people.
func (p *accessPort) populate(t *testing.T) {
	t.Helper()
	link, err := p.door.people.Setup.NewLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.door.people.Setup.Use(t.Context(), link, tablePassword); err != nil {
		t.Fatal(err)
	}
	for column, name := range columnUsers() {
		u := user(name, map[string]v1alpha1.PlatformRole{asSystem: v1alpha1.SystemAdministrator, asDisabled: v1alpha1.SystemAdministrator,
			asExpired: v1alpha1.SystemAdministrator, asAuditor: v1alpha1.Auditor}[column])
		p.create(t, u)
		if err := p.door.people.Accounts.SetPassword(t.Context(), u, tablePassword, false, ""); err != nil {
			t.Fatal(err)
		}
		p.users[column] = u
	}
	for _, column := range tableColumns() {
		p.kept[column] = p.token(t, column)
	}
	p.patch(t, p.users[asDisabled], `{"spec":{"disabled":true}}`)
	for _, column := range tableColumns() {
		p.clients[column] = p.client("")
	}
}

// token gives a new token of a column's person, and the old one of who cannot have one.
func (p *accessPort) token(t *testing.T, column string) string {
	t.Helper()
	u := p.users[column]
	switch {
	case column == asRoot:
		return p.admin.Token()
	case u == nil, p.kept[column] != "" && (column == asDisabled || column == asExpired):
		return p.kept[column]
	}
	token, err := p.door.people.Tokens.Login(t.Context(), u, nil, auth.TokenRequest{Name: "table", Life: 12 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if column == asExpired {
		p.expire(t, token.ID)
	}
	return token.Secret
}

// expire moves the end of a token into the past.
func (p *accessPort) expire(t *testing.T, id string) {
	t.Helper()
	var s corev1.Secret
	if err := p.server.Get(t.Context(), client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: "token-" + id}, &s); err != nil {
		t.Fatal(err)
	}
	record := map[string]any{}
	if err := json.Unmarshal(s.Data["record"], &record); err != nil {
		t.Fatal(err)
	}
	if record["expires"] == nil {
		t.Fatal("a token's record does not say when it ends")
	}
	record["expires"] = time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	content, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	s.Data["record"] = content
	if err := p.server.Update(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
}

// client speaks to the port, from an address of this machine if one is given.
func (p *accessPort) client(from string) *http.Client {
	dialer := &net.Dialer{}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots}, ForceAttemptHTTP2: true, DialContext: dialer.DialContext},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// elsewhere gives a client at an address that has not asked too much yet.
func (p *accessPort) elsewhere() *http.Client {
	const each = 100
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked%each == 0 {
		n := p.asked / each
		p.far = p.client(fmt.Sprintf("127.1.%d.%d", n/250, n%250+1))
	}
	p.asked++
	return p.far
}

// tableRequest is one request.
type tableRequest struct {
	method, path, body, contentType string
	// token is that of who asks; empty is the one that the column uses.
	token string
	// begins says that only the beginning of the answer counts.
	begins bool
}

// ask makes one request as a kind of person, and gives the status and body of the answer.
func (p *accessPort) ask(ctx context.Context, column string, q tableRequest) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, q.method, p.url+q.path, strings.NewReader(q.body))
	if err != nil {
		return 0, "", err
	}
	if token := cmp.Or(q.token, p.kept[column]); token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if q.body != "" {
		request.Header.Set("Content-Type", cmp.Or(q.contentType, "application/json"))
	}
	c := p.clients[column]
	if slices.Index(tableColumns(), column) < 3 {
		// What an address may ask without a login is limited, and that is tested elsewhere.
		c = p.elsewhere()
	}
	response, err := c.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	if q.begins && response.StatusCode == http.StatusOK {
		return response.StatusCode, "", nil
	}
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}
