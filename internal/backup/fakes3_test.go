package backup_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// fakeS3 is the few requests of S3 that are used here, path style, in memory. Like some real stores it keeps what is sent
// as it comes, chunk signatures too. It takes a key's name for the key: a real server tests signatures.
type fakeS3 struct {
	access string
	// deny refuses requests of these methods, by code.
	deny map[string]string
	// corrupt changes what is kept on its way out.
	corrupt func([]byte) []byte

	mu      sync.Mutex
	buckets map[string]map[string][]byte
	uploads map[string]map[string][]byte
}

func newFakeS3() *fakeS3 {
	return &fakeS3{access: "AKIAEXAMPLE", deny: map[string]string{}, buckets: map[string]map[string][]byte{}, uploads: map[string]map[string][]byte{}}
}

func (f *fakeS3) refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	// The client hanging up is its own affair.
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
}

func (f *fakeS3) answer(w http.ResponseWriter, name string, v any) {
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).EncodeElement(v, xml.StartElement{Name: xml.Name{Local: name}})
}

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	objects, exists := f.buckets[bucket]
	q := r.URL.Query()
	switch {
	case err != nil:
		f.refuse(w, http.StatusBadRequest, "IncompleteBody", "short")
	case !strings.Contains(r.Header.Get("Authorization"), "Credential="+f.access+"/"):
		f.refuse(w, http.StatusForbidden, "InvalidAccessKeyId", "no such key: \u009b31m "+r.Header.Get("Authorization"))
	case f.deny[r.Method] != "":
		f.refuse(w, http.StatusForbidden, f.deny[r.Method], "no")
	case bucket == "":
		type item struct{ Name string }
		var all struct{ Buckets struct{ Bucket []item } }
		for name := range f.buckets {
			all.Buckets.Bucket = append(all.Buckets.Bucket, item{name})
		}
		f.answer(w, "ListAllMyBucketsResult", all)
	case key == "" && r.Method == http.MethodPut:
		f.buckets[bucket] = map[string][]byte{}
	case !exists:
		f.refuse(w, http.StatusNotFound, "NoSuchBucket", "none")
	case key == "":
		f.list(w, r, objects)
	case q.Has("uploads"):
		f.uploads[key] = map[string][]byte{}
		f.answer(w, "InitiateMultipartUploadResult", struct{ Bucket, Key, UploadId string }{bucket, key, key})
	case q.Has("uploadId"):
		f.upload(w, r, objects, key, body)
	case r.Method == http.MethodPut:
		objects[key] = body
	case r.Method == http.MethodDelete:
		delete(objects, key)
		w.WriteHeader(http.StatusNoContent)
	default:
		content, found := objects[key]
		if !found {
			f.refuse(w, http.StatusNotFound, "NoSuchKey", "none")
			return
		}
		if f.corrupt != nil {
			content = f.corrupt(bytes.Clone(content))
		}
		w.Header().Set("ETag", `"x"`)
		http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(content))
	}
}

func (f *fakeS3) list(w http.ResponseWriter, r *http.Request, objects map[string][]byte) {
	type item struct {
		Key          string
		Size         int
		LastModified string
	}
	var all struct{ Contents []item }
	for key, content := range objects {
		if strings.HasPrefix(key, r.URL.Query().Get("prefix")) {
			all.Contents = append(all.Contents, item{key, len(content), "2026-01-02T03:04:05Z"})
		}
	}
	slices.SortFunc(all.Contents, func(a, b item) int { return strings.Compare(a.Key, b.Key) })
	if r.Method == http.MethodGet {
		f.answer(w, "ListBucketResult", all)
	}
}

func (f *fakeS3) upload(w http.ResponseWriter, r *http.Request, objects map[string][]byte, key string, body []byte) {
	parts, found := f.uploads[key]
	switch {
	case !found:
		f.refuse(w, http.StatusNotFound, "NoSuchUpload", "none")
	case r.Method == http.MethodPut:
		parts[fmt.Sprintf("%05s", r.URL.Query().Get("partNumber"))] = body
		w.Header().Set("ETag", `"x"`)
	case r.Method == http.MethodDelete:
		delete(f.uploads, key)
		w.WriteHeader(http.StatusNoContent)
	default:
		var whole []byte
		for n := 1; n <= len(parts); n++ {
			whole = append(whole, parts[fmt.Sprintf("%05d", n)]...)
		}
		objects[key] = whole
		delete(f.uploads, key)
		f.answer(w, "CompleteMultipartUploadResult", struct{ Bucket, Key, ETag string }{"b", key, `"x"`})
	}
}
