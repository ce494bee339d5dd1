package login

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/internal/cli/output"
)

const (
	answerTime = time.Minute
	maxAnswer  = 1 << 20
	// reasonMustChange is what a server says to a person who has to choose another password first.
	reasonMustChange metav1.StatusReason = "PasswordMustChange"
)

// remote is a server before login: it is trusted, and does not know the person yet.
type remote struct {
	url *url.URL
	// roots is the authority to trust, in PEM; nil means those of this machine.
	roots  []byte
	client *http.Client
	// cookies of a browser session, and token: what the person has shown.
	cookies []*http.Cookie
	token   string
}

// reach finds out whom to trust and gives the server.
func (c Config) reach(ctx context.Context, server *url.URL, t trust) (*remote, error) {
	roots, err := c.roots(ctx, server, t)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if roots != nil {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(roots)
	}
	return &remote{url: server, roots: roots, client: &http.Client{
		Timeout: answerTime, CheckRedirect: noRedirect,
		Transport: &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true},
	}}, nil
}

// call sends a body as JSON and decodes the answer; nil for neither. A refusal is the API's error.
func (r *remote) call(ctx context.Context, method, path string, body, into any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, r.url.JoinPath(path).String(), bytes.NewReader(content))
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if r.token != "" {
		request.Header.Set("Authorization", "Bearer "+r.token)
	}
	for _, cookie := range r.cookies {
		request.AddCookie(cookie)
		request.Header.Set("Origin", "https://"+r.url.Host)
	}
	answer, err := r.client.Do(request)
	if err != nil {
		return fmt.Errorf("cannot reach %s: %w", r.url, err)
	}
	defer answer.Body.Close()
	content, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w", r.url, err)
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		return refusal(r.url, answer, content)
	}
	if cookies := answer.Cookies(); len(cookies) > 0 {
		r.cookies = cookies
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w; is it a Slipway server?", r.url, err)
	}
	return nil
}

func refusal(server *url.URL, answer *http.Response, content []byte) error {
	var status metav1.Status
	if json.Unmarshal(content, &status) == nil && status.Kind == "Status" && status.Message != "" {
		return &apierrors.StatusError{ErrStatus: status}
	}
	return fmt.Errorf("%s answers %s; is it a Slipway server?", server, answer.Status)
}

// told gives a refusal as the server words it: the advice for other commands, to ask for a right or to log in, does not
// fit before login.
func told(err error) error {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code >= http.StatusInternalServerError {
		return err
	}
	fix := ""
	if mustChange(err) {
		fix = "log in on a terminal, or give --new-password-file"
	}
	return output.Refused(string(status.Status().Reason), fix, "%s", output.Line(status.Status().Message))
}

func mustChange(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Reason == reasonMustChange
}
