package drill

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/internal/pki"
)

// The keys in a room.
const (
	caFile, servingCert, servingKey = "ca.crt", "serving.crt", "serving.key"
	accountKey, accountPublic       = "account.key", "account.pub"
)

const (
	// page is how many objects are asked for at a time.
	page = 500
	// maxAnswer bounds one answer, in bytes: a page of the largest objects.
	maxAnswer = 1 << 30
	// metadataOnly asks for names alone; the API server still reads every object.
	metadataOnly = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
)

// api is the API server of a drill.
type api struct {
	client *http.Client
	base   string
}

func (a *api) close() { a.client.CloseIdleConnections() }

// startAPI runs an API server that only the holder of a key made here may ask.
func (d *drill) startAPI(ctx context.Context) (*api, error) {
	ca, err := pki.NewCA("drill", 24*time.Hour)
	if err != nil {
		return nil, fmt.Errorf("cannot begin a drill: %w", err)
	}
	cert, key, err := ca.Issue(pki.Template{CommonName: "drill", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	if err != nil {
		return nil, fmt.Errorf("cannot begin a drill: %w", err)
	}
	for name, content := range map[string][]byte{caFile: ca.CertPEM(), servingCert: cert, servingKey: key,
		accountKey: d.job.AccountKey, accountPublic: d.job.AccountPublic} {
		if err := d.room.write(name, content); err != nil {
			return nil, fmt.Errorf("cannot begin a drill: %w", err)
		}
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot begin a drill: %w", err)
	}
	a, err := newAPI(ca, port)
	if err != nil {
		return nil, fmt.Errorf("cannot begin a drill: %w", err)
	}
	server, err := d.room.start(apiProgram, d.apiFlags(port)...)
	if err != nil {
		return nil, err
	}
	return a, until(ctx, server, func(ctx context.Context) error {
		_, err := a.get(ctx, "/readyz", "")
		return err
	})
}

func newAPI(ca *pki.CA, port string) (*api, error) {
	cert, key, err := ca.Issue(pki.Template{CommonName: "drill", Organization: []string{"system:masters"}})
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	return &api{base: "https://127.0.0.1:" + port, client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{pair}},
	}}}, nil
}

// get asks for a path; accept may be empty.
func (a *api) get(ctx context.Context, path, accept string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path, nil)
	if err != nil {
		return nil, err
	}
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	response, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return body, nil
	}
	var status metav1.Status
	if json.Unmarshal(body, &status) != nil || status.Message == "" {
		return nil, fmt.Errorf("the API answers %s", response.Status)
	}
	return nil, fmt.Errorf("the API answers: %s", status.Message)
}

func (a *api) read(ctx context.Context, path string, into any) error {
	body, err := a.get(ctx, path, "")
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// at asks for what was there at a revision, a page of it.
func at(path string, revision int64, limit int) string {
	return path + "?" + url.Values{"limit": {strconv.Itoa(limit)}, "resourceVersion": {strconv.FormatInt(revision, 10)}, "resourceVersionMatch": {"Exact"}}.Encode()
}

// count lists every object below a path as it was at a revision. The API server reads, decrypts and converts each.
func (a *api) count(ctx context.Context, path string, revision int64) (int64, error) {
	var total int64
	for next := at(path, revision, page); next != ""; {
		body, err := a.get(ctx, next, metadataOnly)
		if err != nil {
			return 0, err
		}
		var list struct {
			Metadata metav1.ListMeta   `json:"metadata"`
			Items    []json.RawMessage `json:"items"`
		}
		if err := json.Unmarshal(body, &list); err != nil {
			return 0, err
		}
		total += int64(len(list.Items))
		next = ""
		if list.Metadata.Continue != "" {
			next = path + "?" + url.Values{"limit": {strconv.Itoa(page)}, "continue": {list.Metadata.Continue}}.Encode()
		}
	}
	return total, nil
}

// secret reads one Secret whole and names it; "" when there is none.
func (a *api) secret(ctx context.Context, revision int64) (string, error) {
	var list corev1.SecretList
	if err := a.read(ctx, at("/api/v1/secrets", revision, 1), &list); err != nil || len(list.Items) == 0 {
		return "", err
	}
	return list.Items[0].Namespace + "/" + list.Items[0].Name, nil
}

// definition is what a drill needs of a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Group    string
		Names    struct{ Plural string }
		Versions []struct {
			Name            string
			Served, Storage bool
		}
		Conversion struct{ Strategy string }
	}
}

// resources gives where the API serves what etcd has, by etcd's name.
func (a *api) resources(ctx context.Context, revision int64) (map[string]string, error) {
	paths, err := a.custom(ctx, revision)
	if err != nil {
		return nil, err
	}
	var groups metav1.APIGroupList
	if err := a.read(ctx, "/apis", &groups); err != nil {
		return nil, err
	}
	roots := []string{"/api/v1"}
	for _, g := range groups.Groups {
		// Those of people have their own folders in etcd.
		if slices.ContainsFunc(slices.Collect(maps.Keys(paths)), func(name string) bool { return strings.HasPrefix(name, g.Name+"/") }) {
			continue
		}
		for _, v := range g.Versions {
			roots = append(roots, "/apis/"+v.GroupVersion)
		}
	}
	for _, root := range roots {
		var list metav1.APIResourceList
		if err := a.read(ctx, root, &list); err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			name := stored(list.GroupVersion, r.Name)
			if strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "list") || paths[name] != "" {
				continue
			}
			paths[name] = root + "/" + r.Name
		}
	}
	return paths, nil
}

// custom gives where the objects of CustomResourceDefinitions are served as they are stored. Those that only a webhook
// could convert are left out: a drill calls nobody.
func (a *api) custom(ctx context.Context, revision int64) (map[string]string, error) {
	paths := map[string]string{}
	const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	for next := at(path, revision, page); next != ""; {
		var list struct {
			Metadata metav1.ListMeta
			Items    []definition
		}
		if err := a.read(ctx, next, &list); err != nil {
			return nil, err
		}
		for _, d := range list.Items {
			for _, v := range d.Spec.Versions {
				if v.Served && (v.Storage || paths[d.Spec.Group+"/"+d.Spec.Names.Plural] == "") && d.Spec.Conversion.Strategy != "Webhook" {
					paths[d.Spec.Group+"/"+d.Spec.Names.Plural] = "/apis/" + d.Spec.Group + "/" + v.Name + "/" + d.Spec.Names.Plural
				}
			}
		}
		next = ""
		if list.Metadata.Continue != "" {
			next = path + "?" + url.Values{"limit": {strconv.Itoa(page)}, "continue": {list.Metadata.Continue}}.Encode()
		}
	}
	return paths, nil
}

// stored gives etcd's name for a resource that is built in. The oldest ones have names of their own.
func stored(groupVersion, resource string) string {
	group, _, grouped := strings.Cut(groupVersion, "/")
	switch {
	case grouped && (group == "apiextensions.k8s.io" || group == "apiregistration.k8s.io"):
		return group + "/" + resource
	case resource == "nodes":
		return "minions"
	case resource == "services", resource == "endpoints":
		return "services/" + strings.Replace(resource, "services", "specs", 1)
	case resource == "ingresses":
		return "ingress"
	case resource == "replicationcontrollers":
		return "controllers"
	}
	return resource
}
