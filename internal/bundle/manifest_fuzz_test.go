package bundle

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// FuzzManifest: a bundle's manifest from anywhere is refused, or names nothing that a program could take for something
// else.
func FuzzManifest(f *testing.F) {
	good := `{"name":"v1.36.3","kubernetesVersion":"v1.36.3","architectures":["amd64"],"components":{"etcd":"3.6.8"},` +
		`"images":[{"name":"registry.k8s.io/pause:3.10","role":"pause","nodeRole":"all","architecture":"amd64","digest":"sha256:` + strings.Repeat("0", 64) + `"}],` +
		`"files":[{"name":"kubelet","component":"kubernetes","nodeRole":"all","architecture":"amd64","mode":493,"digest":"sha256:` + strings.Repeat("0", 64) + `"}]}`
	for _, s := range []string{good, `{}`, strings.Replace(good, "pause:3.10", "-pause", 1), strings.Replace(good, "kubelet", "../kubelet", 1), strings.Replace(good, "493", "2541", 1)} {
		f.Add([]byte(s))
	}
	plain := regexp.MustCompile(`\A[A-Za-z0-9_][A-Za-z0-9._+~/:-]*\z`)
	f.Fuzz(func(t *testing.T, content []byte) {
		var m Manifest
		if json.Unmarshal(content, &m) != nil || m.Validate() != nil {
			return
		}
		for _, i := range m.Images {
			for _, text := range []string{i.Name, i.Tag(), i.Repository(), i.Role, i.NodeRole, i.Architecture, string(i.Digest)} {
				if !plain.MatchString(text) {
					t.Errorf("an image has %q", text)
				}
			}
		}
		for _, file := range m.Files {
			if !plain.MatchString(file.Name) || strings.Contains(file.Name, "/") || file.Mode > 0o777 {
				t.Errorf("a file is %+v", file)
			}
		}
	})
}

// FuzzParseRequest: a path of the registry's API names a repository that is one, or is refused.
func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{"/v2/", "/v2/a/manifests/latest", "/v2/a/b/blobs/sha256:0", "/v2/a/tags/list", "/v2/../manifests/x", "/v2//blobs/", "/v2/a/manifests/b/manifests/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		q, ok := parseRequest(path)
		if ok && q.kind != kindBase && !validRepository.MatchString(q.name) {
			t.Errorf("%q asks for %q", path, q.name)
		}
	})
}
