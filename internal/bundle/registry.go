package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

var (
	validName       = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	validRepository = regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
)

// NewRegistry serves a store as a read-only OCI distribution registry under /v2/. It answers containerd's mirror
// requests (?ns=registry.k8s.io with the path lacking the registry) and plain clients that write the whole image name
// into the path; whole bundles are the tags of the repository slipway.dev/bundle. Bundles added to the store later
// are served at once.
//
// authorize decides on every request before anything is read: nil lets it pass, an error is answered with 401 and is
// not shown to the client.
func NewRegistry(s *Store, authorize func(*http.Request) error) http.Handler {
	return &registry{store: s, authorize: authorize}
}

type registry struct {
	store     *Store
	authorize func(*http.Request) error
}

// request is one parsed distribution API request.
type request struct {
	kind      string
	name      string
	reference string
}

const (
	kindBase      = "base"
	kindManifests = "manifests"
	kindBlobs     = "blobs"
	kindTags      = "tags"
)

// ServeHTTP answers one request of the OCI distribution API.
func (g *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := g.authorize(r); err != nil {
		w.Header().Set("Www-Authenticate", `Basic realm="slipway"`)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "a valid token for this registry is needed")
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry is read-only")
		return
	}
	q, ok := parseRequest(r.URL.Path)
	if !ok {
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "this is no path of the OCI distribution API")
		return
	}
	switch q.kind {
	case kindBase:
		w.Header().Set("Content-Type", "application/json")
		write(w, []byte("{}"))
	case kindManifests:
		g.serveManifest(w, r, q)
	case kindBlobs:
		g.serveBlob(w, r, q)
	case kindTags:
		g.serveTags(w, r, q)
	}
}

func parseRequest(path string) (request, bool) {
	rest, ok := strings.CutPrefix(path, "/v2")
	if !ok {
		return request{}, false
	}
	if rest == "" || rest == "/" {
		return request{kind: kindBase}, true
	}
	rest, ok = strings.CutPrefix(rest, "/")
	if !ok {
		return request{}, false
	}
	if name, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return request{kind: kindTags, name: name}, validRepository.MatchString(name)
	}
	for _, kind := range []string{kindManifests, kindBlobs} {
		if at := strings.LastIndex(rest, "/"+kind+"/"); at > 0 {
			q := request{kind: kind, name: rest[:at], reference: rest[at+len(kind)+2:]}
			return q, validRepository.MatchString(q.name)
		}
	}
	return request{}, false
}

func (g *registry) serveManifest(w http.ResponseWriter, r *http.Request, q request) {
	current, err := g.store.current(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	if !validName.MatchString(q.reference) && digest.Digest(q.reference).Validate() != nil {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", "the reference is neither a tag nor a digest")
		return
	}
	d, err := current.resolve(r.URL.Query().Get("ns"), q.name, q.reference)
	if err != nil {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", fmt.Sprintf("no bundle holds %s with %s", q.name, q.reference))
		return
	}
	content, ok := current.made[d.Digest]
	if !ok {
		if content, err = g.store.readDocument(r.Context(), d.Digest, nil); err != nil {
			fail(w, fmt.Errorf("cannot serve manifest %s: %w", d.Digest, err))
			return
		}
	}
	header := w.Header()
	header.Set("Content-Type", d.MediaType)
	header.Set("Docker-Content-Digest", d.Digest.String())
	header.Set("Etag", strconv.Quote(d.Digest.String()))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func (g *registry) serveBlob(w http.ResponseWriter, r *http.Request, q request) {
	d := digest.Digest(q.reference)
	if d.Validate() != nil || d.Algorithm() != digest.SHA256 {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "the reference is no sha256 digest")
		return
	}
	blob, _, err := g.store.Blob(r.Context(), d)
	if errors.Is(err, ErrNotFound) {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "no bundle holds the blob "+d.String())
		return
	}
	if err != nil {
		fail(w, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Docker-Content-Digest", d.String())
	header.Set("Etag", strconv.Quote(d.String()))
	header.Set("Cache-Control", "private, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, blob)
	if err := blob.Close(); err != nil {
		// The answer is sent; all that is left is to end the connection so that the client sees it.
		panic(http.ErrAbortHandler)
	}
}

func (g *registry) serveTags(w http.ResponseWriter, r *http.Request, q request) {
	current, err := g.store.current(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	found, ok := current.find(r.URL.Query().Get("ns"), q.name)
	if !ok {
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "no bundle holds images of "+q.name)
		return
	}
	tags, more, err := page(sortedKeys(found), r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", err.Error())
		return
	}
	if more {
		next := url.Values{"n": {strconv.Itoa(len(tags))}, "last": {tags[len(tags)-1]}}
		if namespace := r.URL.Query().Get("ns"); namespace != "" {
			next.Set("ns", namespace)
		}
		w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.Path, next.Encode()))
	}
	answer(w, http.StatusOK, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{q.name, tags})
}

// page cuts sorted tags by the distribution API's parameters n and last, and says whether more follow.
func page(tags []string, query url.Values) (cut []string, more bool, err error) {
	cut = tags
	if last := query.Get("last"); last != "" {
		for len(cut) > 0 && cut[0] <= last {
			cut = cut[1:]
		}
	}
	if text := query.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, false, fmt.Errorf("n must be a number from 0")
		}
		if n < len(cut) {
			return cut[:n], n > 0, nil
		}
	}
	return cut, false, nil
}

func fail(w http.ResponseWriter, err error) {
	refuse(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
}

// refuse writes the distribution API's error document.
func refuse(w http.ResponseWriter, status int, code, message string) {
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	answer(w, status, struct {
		Errors []item `json:"errors"`
	}{[]item{{code, message}}})
}

func answer(w http.ResponseWriter, status int, value any) {
	content, err := json.Marshal(value)
	if err != nil {
		status, content = http.StatusInternalServerError, []byte(`{"errors":[{"code":"UNKNOWN"}]}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(status)
	write(w, content)
}

// write sends the body. A client that has gone away shows as an error here, and nobody is left to tell.
func write(w http.ResponseWriter, content []byte) {
	if _, err := w.Write(content); err != nil {
		panic(http.ErrAbortHandler)
	}
}
