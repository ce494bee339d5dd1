package backup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/secret"
)

const (
	// partSize is what is held in memory of an upload. A bucket takes 10,000 parts, so a backup has 156 GiB at most.
	partSize = 16 << 20
	// silence is how long a store may say nothing.
	silence = 2 * time.Minute
	// tries is how often a request is sent when the store is busy.
	tries = 3
)

// S3Keys are the credentials of an S3Config. They never print.
type S3Keys struct{ Access, Secret string }

// String hides the keys.
func (S3Keys) String() string { return secret.Mask }

// GoString hides the keys.
func (S3Keys) GoString() string { return secret.Mask }

// S3Config says which bucket, and how to reach it.
type S3Config struct {
	// Endpoint is a URL without a path, such as https://s3.example.com:9000.
	Endpoint string
	Bucket   string
	// Prefix stands before every name; it is empty or ends with '/'.
	Prefix string
	Region string
	// VirtualStyle puts the bucket into the host name (bucket.endpoint) instead of the path.
	VirtualStyle bool
	// CABundle is PEM certificates to trust instead of those of the machine.
	CABundle []byte
	// Insecure allows http://.
	Insecure bool
	Keys     S3Keys
}

// S3 is a Store in a bucket.
type S3 struct {
	config  S3Config
	client  *minio.Client
	secrets *secret.Set
}

// NewS3 gives the store in a bucket. It asks nothing of the bucket yet.
func NewS3(c S3Config) (*S3, error) {
	endpoint, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || endpoint.Host == "" || endpoint.User != nil || strings.Trim(endpoint.Path, "/") != "":
		return nil, fault.NewTerminal("BadEndpoint", "write it like https://s3.example.com:9000", errors.New("cannot use the S3 endpoint: it is no URL without a path"))
	case endpoint.Scheme == "http" && !c.Insecure:
		return nil, fault.NewTerminal("Insecure", "use https://, or say insecure: true", errors.New("cannot use the S3 endpoint: http:// is not allowed"))
	case endpoint.Scheme != "https" && endpoint.Scheme != "http":
		return nil, fault.NewTerminal("BadEndpoint", "write it like https://s3.example.com:9000", fmt.Errorf("cannot use the S3 endpoint: scheme %.20q is neither https nor http", endpoint.Scheme))
	case c.Bucket == "":
		return nil, errors.New("cannot use the S3 endpoint: the bucket is missing")
	case c.Keys.Access == "" || c.Keys.Secret == "":
		return nil, fault.NewTerminal("NoCredentials", "make a Secret with the keys accessKey and secretKey, and name it", errors.New("cannot use the S3 endpoint: its access key or secret key is missing"))
	}
	transport, err := newTransport(c.CABundle)
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupPath
	if c.VirtualStyle {
		lookup = minio.BucketLookupDNS
	}
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds: credentials.NewStaticV4(c.Keys.Access, c.Keys.Secret, ""), Secure: endpoint.Scheme == "https",
		Region: c.Region, BucketLookup: lookup, Transport: transport, MaxRetries: tries,
	})
	s := &S3{config: c, client: client, secrets: &secret.Set{}}
	s.secrets.Add([]byte(c.Keys.Secret), []byte(c.Keys.Access))
	if err != nil {
		return nil, s.explain("use", "", err)
	}
	return s, nil
}

func newTransport(bundle []byte) (http.RoundTripper, error) {
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(bundle) > 0 {
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(bundle) {
			return nil, fault.NewTerminal("BadCABundle", "give certificates in PEM", errors.New("cannot read the CA bundle: no certificate is in it"))
		}
	}
	dialer := net.Dialer{Timeout: 15 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, TLSHandshakeTimeout: 15 * time.Second,
		IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 4, DisableCompression: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return impatient{conn}, nil
		},
	}, nil
}

// impatient ends a connection on which nothing moves in either direction.
type impatient struct{ net.Conn }

func (c impatient) Read(b []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c impatient) Write(b []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Put uploads content in parts, and reads it back.
func (s *S3) Put(ctx context.Context, name string, content io.Reader) (Object, error) {
	if err := CheckName(name); err != nil {
		return Object{}, err
	}
	if there, err := s.List(ctx, name); err != nil {
		return Object{}, err
	} else if slices.ContainsFunc(there, func(o Object) bool { return o.Name == name }) {
		return Object{}, fmt.Errorf("cannot keep backup %s in %s: %w", name, s.place(), fs.ErrExist)
	}
	m := Measure(ctx, content)
	_, err := s.client.PutObject(ctx, s.config.Bucket, s.config.Prefix+name, m, -1, minio.PutObjectOptions{
		ContentType: "application/octet-stream", PartSize: partSize,
		// Else the client sends chunks with signatures in between over http://, which some stores keep as they come.
		DisableContentSha256: true,
	})
	uploaded := err == nil
	if uploaded {
		err = readBack(ctx, s, m.Object(name))
	}
	if err == nil {
		return m.Object(name), nil
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	err = s.explain("keep", name, err)
	// After a failed upload there is something only if the store's last answer was lost, and a second error says nothing new.
	if removed := s.Remove(after, name); uploaded {
		err = errors.Join(err, removed)
	}
	return Object{}, err
}

// Get reads the object of that name.
func (s *S3) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	core := minio.Core{Client: s.client}
	content, _, _, err := core.GetObject(ctx, s.config.Bucket, s.config.Prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, s.explain("read", name, err)
	}
	return content, nil
}

// List asks the store for the objects under the prefix of the bucket.
func (s *S3) List(ctx context.Context, prefix string) ([]Object, error) {
	// The channel is drained or its context ended, else its sender waits for ever.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var found []Object
	for o := range s.client.ListObjects(ctx, s.config.Bucket, minio.ListObjectsOptions{Prefix: s.config.Prefix + prefix}) {
		if o.Err != nil {
			return nil, s.explain("list", prefix, o.Err)
		}
		name, under := strings.CutPrefix(o.Key, s.config.Prefix)
		if under && CheckName(name) == nil {
			found = append(found, Object{Name: name, Size: o.Size, Modified: o.LastModified})
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, s.explain("list", prefix, err)
	}
	slices.SortFunc(found, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// Remove deletes the object of that name.
func (s *S3) Remove(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	err := s.client.RemoveObject(ctx, s.config.Bucket, s.config.Prefix+name, minio.RemoveObjectOptions{})
	if err != nil && codeOf(err) != minio.NoSuchKey {
		return s.explain("remove", name, err)
	}
	return nil
}

// Test makes the bucket when it is missing, and probes it.
func (s *S3) Test(ctx context.Context) error {
	there, err := s.client.BucketExists(ctx, s.config.Bucket)
	// A refusal has no words here, and keys that may use a bucket may not always ask for it: the probe will tell.
	if err != nil && codeOf(err) == "" {
		return s.explain("use", "", err)
	}
	if err == nil && !there {
		if err := s.client.MakeBucket(ctx, s.config.Bucket, minio.MakeBucketOptions{Region: s.config.Region}); err != nil {
			return fmt.Errorf("the bucket is missing and could not be made: %w", s.explain("use", "", err))
		}
	}
	if err := Probe(ctx, s); err != nil {
		return fmt.Errorf("cannot use %s for backups: %w", s.place(), err)
	}
	return nil
}

// Buckets names the buckets that the keys may see, for a person to choose from.
func (s *S3) Buckets(ctx context.Context) ([]string, error) {
	all, err := s.client.ListBuckets(ctx)
	if err != nil {
		return nil, s.explain("list", "", err)
	}
	var names []string
	for _, b := range all {
		names = append(names, b.Name)
	}
	slices.Sort(names)
	return names, nil
}
