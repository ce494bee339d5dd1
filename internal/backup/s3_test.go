package backup_test

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/backup/backuptest"
	"slipway.dev/slipway/internal/fault"
)

const secretKey = "not/a+real=secret-key-for-tests-0123456789"

func fakeConfig(endpoint string) backup.S3Config {
	return backup.S3Config{
		Endpoint: endpoint, Bucket: "backups", Prefix: "slipway/one/", Region: "us-east-1", Insecure: true,
		Keys: backup.S3Keys{Access: "AKIAEXAMPLE", Secret: secretKey},
	}
}

func open3(t *testing.T, c backup.S3Config) *backup.S3 {
	t.Helper()
	s, err := backup.NewS3(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func serve(t *testing.T, f http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return server
}

func TestS3(t *testing.T) {
	f := newFakeS3()
	server := serve(t, f)
	backuptest.Run(t, open3(t, fakeConfig(server.URL)))
	if len(f.uploads) != 0 {
		t.Errorf("%d unfinished uploads are left and cost space", len(f.uploads))
	}
	f.buckets["backups"]["slipway/one/NOTES.txt"] = []byte("by hand")
	f.buckets["backups"]["slipway/two/demo-daily-other1"] = []byte("of another")
	found, err := open3(t, fakeConfig(server.URL)).List(t.Context(), "")
	if diff := cmp.Diff([]string{"demo-daily-small1", "demo-manual-exact1"}, backuptest.Names(found)); diff != "" || err != nil {
		t.Errorf("what is not ours is listed: %v\n%s", err, diff)
	}
}

// TestS3CorruptingStore: a store that answers yes and keeps something else is found out, and keeps nothing.
func TestS3CorruptingStore(t *testing.T) {
	f := newFakeS3()
	s := open3(t, fakeConfig(serve(t, f).URL))
	if err := s.Test(t.Context()); err != nil {
		t.Fatal(err)
	}
	for reason, corrupt := range map[string]func([]byte) []byte{
		"one bit":           func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"the end":           func(b []byte) []byte { return b[:len(b)-1] },
		"more than we gave": func(b []byte) []byte { return append(b, 0) },
		"everything":        func([]byte) []byte { return nil },
	} {
		f.corrupt = corrupt
		_, err := s.Put(t.Context(), "demo-daily-abc123", bytes.NewReader(backuptest.Noise(1, 1000)))
		if fault.ReasonOf(err) != "StoreCorrupts" || len(f.buckets["backups"]) != 0 {
			t.Errorf("%s: %v, and %d objects are kept", reason, err, len(f.buckets["backups"]))
		}
		if err := s.Test(t.Context()); err == nil {
			t.Errorf("%s: the test passes", reason)
		}
	}
}

// TestS3SaysWhatFailed: each error has a reason and a fix, and none holds a key.
func TestS3SaysWhatFailed(t *testing.T) {
	plain := serve(t, newFakeS3())
	encrypted := httptest.NewUnstartedServer(newFakeS3())
	encrypted.Config.ErrorLog = log.New(io.Discard, "", 0)
	encrypted.StartTLS()
	t.Cleanup(encrypted.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: encrypted.Certificate().Raw})
	if err := open3(t, backup.S3Config{Endpoint: encrypted.URL, Bucket: "b-1", CABundle: ca, Keys: backup.S3Keys{Access: "AKIAEXAMPLE", Secret: secretKey}}).Test(t.Context()); err != nil {
		t.Errorf("with its CA: %v", err)
	}
	denied := func(method, code string) string {
		f := newFakeS3()
		f.buckets["backups"] = map[string][]byte{}
		f.deny[method] = code
		return serve(t, f).URL
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, test := range []struct {
		reason, endpoint string
		change           func(*backup.S3Config)
		want, text       string
	}{
		{"the access key is wrong", plain.URL, func(c *backup.S3Config) { c.Keys.Access = "AKIAWRONG" }, "BadCredentials", "InvalidAccessKeyId"},
		{"the key may not write", denied(http.MethodPost, "AccessDenied"), nil, "NotAllowed", "the test to write failed"},
		{"the key may not remove", denied(http.MethodDelete, "AccessDenied"), nil, "NotAllowed", "the test to remove failed"},
		{"the region is another", denied(http.MethodGet, "AuthorizationHeaderMalformed"), nil, "WrongRegion", ""},
		{"a refusal that nobody knows", denied(http.MethodGet, "418 I am a teapot"), nil, "Refused", "418 I am a teapot"},
		{"the bucket cannot be made", func() string { f := newFakeS3(); f.deny[http.MethodPut] = "AccessDenied"; return serve(t, f).URL }(), nil, "NotAllowed", "could not be made"},
		{"nobody listens", gone.URL, nil, "Unreachable", "connection refused"},
		{"https to an http port", strings.Replace(plain.URL, "http:", "https:", 1), nil, "NoTLS", ""},
		{"a certificate of an unknown CA", encrypted.URL, nil, "NotTrusted", ""},
	} {
		c := fakeConfig(test.endpoint)
		if test.change != nil {
			test.change(&c)
		}
		err := open3(t, c).Test(t.Context())
		if err == nil {
			t.Errorf("%s: the test passes", test.reason)
			continue
		}
		if fault.ReasonOf(err) != test.want || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %s: %v; want %s and %q", test.reason, fault.ReasonOf(err), err, test.want, test.text)
		}
		if fault.ClassOf(err) == fault.Terminal && fault.FixOf(err) == "" {
			t.Errorf("%s: nobody is told what to do: %v", test.reason, err)
		}
		said := fmt.Sprintf("%v %+v %#v", err, err, fault.FixOf(err))
		for _, word := range []string{secretKey, c.Keys.Access, "\u009b"} {
			if strings.Contains(said, word) {
				t.Errorf("%s: %q is in %s", test.reason, word, said)
			}
		}
	}
}

func TestS3Refuses(t *testing.T) {
	for _, test := range []struct {
		reason string
		change func(*backup.S3Config)
	}{
		{"http:// without leave", func(c *backup.S3Config) { c.Insecure = false }},
		{"another scheme", func(c *backup.S3Config) { c.Endpoint = "ftp://s3.example.com" }},
		{"no scheme", func(c *backup.S3Config) { c.Endpoint = "s3.example.com:9000" }},
		{"a path", func(c *backup.S3Config) { c.Endpoint = "https://s3.example.com/bucket" }},
		{"a password in the URL", func(c *backup.S3Config) { c.Endpoint = "https://user:" + secretKey + "@s3.example.com" }},
		{"no bucket", func(c *backup.S3Config) { c.Bucket = "" }},
		{"no secret key", func(c *backup.S3Config) { c.Keys.Secret = "" }},
		{"a CA bundle without a certificate", func(c *backup.S3Config) { c.CABundle = []byte("none") }},
	} {
		c := fakeConfig("http://127.0.0.1:1")
		test.change(&c)
		if _, err := backup.NewS3(c); err == nil || strings.Contains(err.Error(), secretKey) {
			t.Errorf("%s: %v", test.reason, err)
		}
	}
	c := fakeConfig("http://127.0.0.1:1")
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%+v", &c)} {
		if strings.Contains(text, secretKey) || strings.Contains(text, c.Keys.Access) {
			t.Errorf("the keys print: %s", text)
		}
	}
}

func TestS3Buckets(t *testing.T) {
	f := newFakeS3()
	f.buckets = map[string]map[string][]byte{"two": {}, "one": {}}
	got, err := open3(t, fakeConfig(serve(t, f).URL)).Buckets(t.Context())
	if diff := cmp.Diff([]string{"one", "two"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	c := fakeConfig(serve(t, f).URL)
	c.Keys.Access = "AKIAWRONG"
	if got, err := open3(t, c).Buckets(t.Context()); fault.ReasonOf(err) != "BadCredentials" {
		t.Errorf("wrong keys list %v, %v", got, err)
	}
}
