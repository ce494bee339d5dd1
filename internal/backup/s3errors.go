package backup

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"unicode"

	"github.com/minio/minio-go/v7"

	"slipway.dev/slipway/internal/fault"
)

// longest bounds what of a store's own words is repeated.
const longest = 400

func (s *S3) place() string {
	return fmt.Sprintf("bucket %s at %s", s.config.Bucket, s.config.Endpoint)
}

// codeOf gives the code of a store's answer, or "".
func codeOf(err error) string {
	var answer minio.ErrorResponse
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}

func statusOf(err error) int {
	var answer minio.ErrorResponse
	errors.As(err, &answer)
	return answer.StatusCode
}

// explain says what failed, with what a person can do. What the store said is cut, and cleaned of keys and of what a
// terminal would obey, so its error is not in the chain; those of the caller are.
func (s *S3) explain(verb, name string, err error) error {
	what := s.place()
	if name != "" {
		what = "backup " + name + " in " + what
	}
	var own *fault.Error
	var source cutOff
	switch {
	case errors.As(err, &own), errors.As(err, &source), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("cannot %s %s: %w", verb, what, err)
	case codeOf(err) == minio.NoSuchKey:
		return fmt.Errorf("cannot %s %s: %w", verb, what, fs.ErrNotExist)
	}
	said := fmt.Errorf("cannot %s %s: %s", verb, what, s.clean(err))
	reason, fix := advice(err)
	if fix == "" {
		return fault.NewTransient(reason, said)
	}
	return fault.NewTerminal(reason, fix, said)
}

// advice gives a reason, and a fix for what stays until a person does something.
func advice(err error) (string, string) {
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	switch code := codeOf(err); {
	case code == "InvalidAccessKeyId" || code == "SignatureDoesNotMatch":
		return "BadCredentials", "make a Secret with the right accessKey and secretKey, and let the location name it"
	case code == minio.AccessDenied || code == "AllAccessDisabled":
		return "NotAllowed", "let the access key list the bucket, and read, write and delete its objects"
	case code == minio.NoSuchBucket:
		return "NoBucket", "make the bucket, or let the access key make it"
	case code == "AuthorizationHeaderMalformed" || code == "PermanentRedirect" || code == "InvalidRegion":
		return "WrongRegion", "set the region of the bucket"
	case code == "RequestTimeTooSkewed":
		return "ClockSkew", "set the clocks of this server and of the store right"
	case code == "QuotaExceeded" || code == "XMinioStorageFull" || code == "InsufficientStorage":
		return "Full", "free space in the store, or keep fewer backups"
	case errors.As(err, &unknown), errors.As(err, &invalid):
		return "NotTrusted", "put the CA of the store into caBundle"
	case errors.As(err, &hostname):
		return "NotTrusted", "use the name that is in the certificate of the store"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "NoTLS", "the store speaks http:// at this port: use its https:// port"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "NoSuchHost", "correct the host name of the endpoint; with address style Virtual, BUCKET.HOST must resolve too"
	case code != "" && statusOf(err) < 500:
		return "Refused", "ask who runs the store"
	case code != "":
		return "StoreFailed", ""
	}
	return "Unreachable", ""
}

func (s *S3) clean(err error) string {
	text := s.secrets.Redact(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, err.Error()))
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	if code := codeOf(err); code != "" && !strings.Contains(text, code) {
		text += " (" + code + ")"
	}
	return text
}
