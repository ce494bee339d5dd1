package bundle_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/bundle/bundletest"
)

func allow(*http.Request) error { return nil }

func serve(t *testing.T, s *bundle.Store, authorize func(*http.Request) error) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(bundle.NewRegistry(s, authorize))
	t.Cleanup(server.Close)
	return server
}

func TestRegistryRequests(t *testing.T) {
	s := open(t)
	m := write(t, s, bundletest.Options{})
	etcd, _ := m.Image(bundle.RoleEtcd, "amd64")
	kubelet, _ := m.File("kubelet", "amd64")
	missing := digest.FromString("missing").String()
	server := serve(t, s, allow)
	cases := map[string]struct {
		reason  string
		method  string
		path    string
		header  http.Header
		status  int
		want    map[string]string
		length  int64
		code    string
		content string
	}{
		"Base": {
			reason: "the base path says that this is a registry", path: "/v2/", status: 200,
			want: map[string]string{"Docker-Distribution-Api-Version": "registry/2.0"},
		},
		"MirrorTag": {
			reason: "containerd names the registry in ns", path: "/v2/etcd/manifests/3.6.9-0?ns=registry.k8s.io", status: 200,
			want: map[string]string{
				"Docker-Content-Digest": etcd.Digest.String(), "Content-Type": "application/vnd.oci.image.manifest.v1+json",
			},
		},
		"MirrorOtherRegistry": {
			reason: "images of other registries are found by their ns",
			path:   "/v2/flannel-io/flannel/manifests/v0.26.7?ns=ghcr.io", status: 200,
		},
		"MirrorWrongRegistry": {
			reason: "the same path of another registry is another image",
			path:   "/v2/etcd/manifests/3.6.9-0?ns=quay.io", status: 404, code: "MANIFEST_UNKNOWN",
		},
		"WholeName": {
			reason: "a plain client writes the whole name", path: "/v2/registry.k8s.io/etcd/manifests/3.6.9-0", status: 200,
		},
		"DefaultRegistry": {reason: "kubeadm's registry is the default", path: "/v2/etcd/manifests/3.6.9-0", status: 200},
		"NestedName": {
			reason: "names have several parts", path: "/v2/coredns/coredns/manifests/v1.14.2", status: 200,
		},
		"ManifestByDigest": {
			reason: "a manifest is had by digest too", path: "/v2/etcd/manifests/" + etcd.Digest.String(), status: 200,
		},
		"ManifestHead": {
			reason: "HEAD has the length and no body", method: "HEAD", path: "/v2/etcd/manifests/3.6.9-0", status: 200,
			want: map[string]string{"Docker-Content-Digest": etcd.Digest.String()},
		},
		"UnknownTag": {
			reason: "an unknown tag has the standard code", path: "/v2/etcd/manifests/9.9.9", status: 404, code: "MANIFEST_UNKNOWN",
		},
		"BadTag": {
			reason: "a reference that is neither tag nor digest is a mistake", path: "/v2/etcd/manifests/sha256:zz",
			status: 400, code: "MANIFEST_INVALID",
		},
		"BlobIsNoManifest": {
			reason: "a blob is not served as a manifest", path: "/v2/etcd/manifests/" + kubelet.Digest.String(),
			status: 404, code: "MANIFEST_UNKNOWN",
		},
		"Blob": {
			reason: "a node file is had by its sha256", path: "/v2/x/blobs/" + kubelet.Digest.String(), status: 200,
			want: map[string]string{"Docker-Content-Digest": kubelet.Digest.String(), "Accept-Ranges": "bytes"}, length: kubelet.Size,
		},
		"BlobRange": {
			reason: "a transfer that was cut off goes on", path: "/v2/x/blobs/" + kubelet.Digest.String(),
			header: http.Header{"Range": {"bytes=1-3"}}, status: 206, length: 3, content: "ELF",
		},
		"BlobBadRange": {
			reason: "a range behind the end is refused", path: "/v2/x/blobs/" + kubelet.Digest.String(),
			header: http.Header{"Range": {"bytes=99999-"}}, status: 416,
		},
		"BlobMissing": {
			reason: "an unknown blob has the standard code", path: "/v2/x/blobs/" + missing, status: 404, code: "BLOB_UNKNOWN",
		},
		"BlobBadDigest": {
			reason: "only sha256 digests are blobs", path: "/v2/x/blobs/sha256:12", status: 400, code: "DIGEST_INVALID",
		},
		"BlobTraversal": {
			reason: "no path leads out of the store", path: "/v2/x/blobs/..%2f..%2f..%2findex.json", status: 400, code: "DIGEST_INVALID",
		},
		"Tags": {
			reason: "tags are listed", path: "/v2/etcd/tags/list", status: 200, content: `{"name":"etcd","tags":["3.6.9-0"]}`,
		},
		"Bundles": {
			reason: "bundles are tags of one repository", path: "/v2/slipway.dev/bundle/tags/list", status: 200,
			content: `{"name":"slipway.dev/bundle","tags":["v1.36.3"]}`,
		},
		"TagsUnknown": {
			reason: "an unknown name has the standard code", path: "/v2/nothing/tags/list", status: 404, code: "NAME_UNKNOWN",
		},
		"TagsBadPage": {
			reason: "n must be a number", path: "/v2/etcd/tags/list?n=x", status: 400, code: "PAGINATION_NUMBER_INVALID",
		},
		"Push": {
			reason: "nothing can be pushed", method: "POST", path: "/v2/etcd/blobs/uploads/", status: 405, code: "UNSUPPORTED",
			want: map[string]string{"Allow": "GET, HEAD"},
		},
		"Delete": {
			reason: "nothing can be deleted", method: "DELETE", path: "/v2/etcd/manifests/3.6.9-0", status: 405, code: "UNSUPPORTED",
		},
		"OtherPath": {reason: "there is nothing beside the API", path: "/index.json", status: 404, code: "NAME_UNKNOWN"},
		"BadName":   {reason: "names are lower case", path: "/v2/Etcd/tags/list", status: 404, code: "NAME_UNKNOWN"},
	}
	for label, c := range cases {
		t.Run(label, func(t *testing.T) {
			method := c.method
			if method == "" {
				method = http.MethodGet
			}
			request, err := http.NewRequestWithContext(t.Context(), method, server.URL+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for key, values := range c.header {
				request.Header[key] = values
			}
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err := errors.Join(err, response.Body.Close()); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != c.status {
				t.Fatalf("%s: status %d, want %d: %s", c.reason, response.StatusCode, c.status, body)
			}
			for key, value := range c.want {
				if got := response.Header.Get(key); got != value {
					t.Errorf("%s: header %s is %q, want %q", c.reason, key, got, value)
				}
			}
			if c.length != 0 && response.ContentLength != c.length {
				t.Errorf("%s: %d bytes, want %d", c.reason, response.ContentLength, c.length)
			}
			if c.content != "" && string(body) != c.content {
				t.Errorf("%s: body %s, want %s", c.reason, body, c.content)
			}
			if c.code != "" && c.code != errorCode(t, body) {
				t.Errorf("%s: code %s, want %s", c.reason, errorCode(t, body), c.code)
			}
		})
	}
}

func errorCode(t *testing.T, body []byte) string {
	t.Helper()
	var document struct {
		Errors []struct{ Code string }
	}
	if err := json.Unmarshal(body, &document); err != nil || len(document.Errors) != 1 {
		t.Fatalf("no error document: %s (%v)", body, err)
	}
	return document.Errors[0].Code
}

func TestRegistryPagesTags(t *testing.T) {
	s := open(t)
	for _, version := range []string{"v1.34.4", "v1.35.4", "v1.36.3"} {
		write(t, s, bundletest.Options{Name: version})
	}
	server := serve(t, s, allow)
	repository, err := name.NewRepository(strings.TrimPrefix(server.URL, "http://")+"/registry.k8s.io/kube-apiserver", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.List(repository, remote.WithContext(t.Context()), remote.WithPageSize(1))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"v1.34.4", "v1.35.4", "v1.36.3"}, got); diff != "" {
		t.Errorf("a client that follows pages of one sees all tags (-want +got):\n%s", diff)
	}
}

func TestRegistryWithRealClient(t *testing.T) {
	s := open(t)
	server := serve(t, s, allow)
	host := strings.TrimPrefix(server.URL, "http://")
	// Written after the registry was made: a new bundle is served at once.
	m := write(t, s, bundletest.Options{Architectures: []string{"amd64", "arm64"}})
	for _, image := range m.Images {
		ref, err := name.ParseReference(host+"/"+image.Name, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		pulled, err := remote.Image(ref, remote.WithContext(t.Context()),
			remote.WithPlatform(v1.Platform{OS: "linux", Architecture: image.Architecture}))
		if err != nil {
			t.Fatalf("cannot pull %s for %s: %v", image.Name, image.Architecture, err)
		}
		if got, err := pulled.Digest(); err != nil || got.String() != image.Digest.String() {
			t.Errorf("%s for %s: digest %s (%v), want %s", image.Name, image.Architecture, got, err, image.Digest)
		}
		layers, err := pulled.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, layer := range layers {
			content, err := layer.Compressed()
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, content)
			if err := errors.Join(err, content.Close()); err != nil {
				t.Errorf("cannot pull a layer of %s: %v", image.Name, err)
			}
		}
	}
	ref, err := name.ParseReference(host+"/"+bundle.Repository+":v1.36.3", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatalf("cannot pull the bundle itself: %v", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(manifest.Manifests), len(m.Images)+len(m.Architectures); got != want {
		t.Errorf("the bundle's index has %d entries, want %d", got, want)
	}
}

func TestRegistryClientRefusesCorruptBlob(t *testing.T) {
	s := open(t)
	m := write(t, s, bundletest.Options{})
	server := serve(t, s, allow)
	etcd, _ := m.Image(bundle.RoleEtcd, "amd64")
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://")+"/"+etcd.Name, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(ref, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	layers, err := pulled.Layers()
	if err != nil {
		t.Fatal(err)
	}
	d, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	path := blobPath(s, digest.Digest(d.String()))
	if err := os.WriteFile(path, []byte(strings.ToUpper("layer of etcd for amd64")), 0o600); err != nil {
		t.Fatal(err)
	}
	content, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, content)
	if closeErr := content.Close(); closeErr != nil {
		t.Fatal(closeErr)
	}
	if err == nil {
		t.Error("the client took a blob whose bytes do not match its digest")
	}
	manifestPath := blobPath(s, etcd.Digest)
	if err := os.WriteFile(manifestPath, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Image(ref, remote.WithContext(t.Context())); err == nil {
		t.Error("the registry served a manifest whose bytes do not match its digest")
	}
}

func TestRegistryAuthorizesFirst(t *testing.T) {
	s := open(t)
	write(t, s, bundletest.Options{})
	server := serve(t, s, func(r *http.Request) error {
		if r.Header.Get("Authorization") != "Bearer right" {
			return errors.New("secret reason")
		}
		return nil
	})
	for _, path := range []string{"/v2/", "/v2/etcd/manifests/3.6.9-0", "/v2/etcd/tags/list", "/other"} {
		for token, want := range map[string]int{"": 401, "Bearer wrong": 401, "Bearer right": 200} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", token)
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err := errors.Join(err, response.Body.Close()); err != nil {
				t.Fatal(err)
			}
			if path == "/other" && want == 200 {
				want = 404
			}
			if response.StatusCode != want {
				t.Errorf("%s with %q: status %d, want %d", path, token, response.StatusCode, want)
			}
			if strings.Contains(string(body), "secret reason") {
				t.Errorf("%s with %q: the client is told why: %s", path, token, body)
			}
			if want == 401 && (errorCode(t, body) != "UNAUTHORIZED" || response.Header.Get("Www-Authenticate") == "") {
				t.Errorf("%s with %q: no proper challenge: %s", path, token, body)
			}
		}
	}
}
