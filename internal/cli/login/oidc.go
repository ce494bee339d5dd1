package login

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"slipway.dev/slipway/internal/cli/output"
)

// browserTime is how long a person may take in the browser.
const browserTime = 10 * time.Minute

// directoryLogin lets the person log in with a browser on this machine, which then brings a one-time code to a port
// that only this machine can reach. The code is worth nothing without the verifier, which stays here.
func (c Config) directoryLogin(ctx context.Context, r *remote) (granted, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return granted{}, fmt.Errorf("cannot wait for the browser: %w", err)
	}
	verifier := rand.Text() + rand.Text()
	digest := sha256.Sum256([]byte(verifier))
	start := r.url.JoinPath("slipway/v1/oidc/start")
	start.RawQuery = url.Values{
		"cli":       {strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)},
		"challenge": {base64.RawURLEncoding.EncodeToString(digest[:])},
	}.Encode()
	// A person must not be sent to a browser to read there that the server has no directory.
	if err := r.begins(ctx, start); err != nil {
		return granted{}, errors.Join(err, listener.Close())
	}
	if _, err := fmt.Fprintf(c.Streams.ErrOut, "Open this address in a browser on this machine:\n  %s\n", start); err != nil {
		return granted{}, errors.Join(err, listener.Close())
	}
	code, err := waitForCode(ctx, listener)
	if err != nil {
		return granted{}, err
	}
	var got granted
	if err := r.call(ctx, "POST", "slipway/v1/oidc/exchange", map[string]string{"code": code, "verifier": verifier}, &got); err != nil {
		return granted{}, err
	}
	r.token = got.Token
	var me struct{ Identity string }
	if err := r.call(ctx, "GET", "slipway/v1/me", nil, &me); err != nil {
		return granted{}, err
	}
	got.Identity = me.Identity
	return got, nil
}

// begins says whether the server sends who opens that address to a directory.
func (r *remote) begins(ctx context.Context, start *url.URL) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, start.String(), nil)
	if err != nil {
		return err
	}
	answer, err := r.client.Do(request)
	if err != nil {
		return fmt.Errorf("cannot reach %s: %w", r.url, err)
	}
	if err := answer.Body.Close(); err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w", r.url, err)
	}
	// The rest of the answer is a page for a browser.
	switch answer.StatusCode {
	case http.StatusSeeOther:
		return nil
	case http.StatusNotFound:
		return output.Refused("NoDirectory", "log in with a local account, --user NAME; an administrator names the directory in Setting login", "the server knows no directory")
	default:
		return output.Refused("DirectoryDown", "the server's log says why; a local account still works, --user NAME", "the server cannot send you to the directory: it answers %s", answer.Status)
	}
}

// waitForCode serves the port until a browser brings a code, and closes it.
func waitForCode(ctx context.Context, listener net.Listener) (string, error) {
	codes := make(chan string, 1)
	server := &http.Server{
		ReadHeaderTimeout: dialTime,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			code := r.URL.Query().Get("code")
			if r.Method != http.MethodGet || r.URL.Path != "/" || code == "" {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("Cache-Control", "no-store")
			// A browser that went away has brought its code all the same.
			_, _ = fmt.Fprintln(w, "You are logged in. Close this window and go back to the terminal.\n已登录。请关闭此窗口并返回终端。")
			select {
			case codes <- code:
			default: // The first one counts.
			}
		}),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	timer := time.NewTimer(browserTime)
	defer timer.Stop()
	var code string
	var err error
	select {
	case code = <-codes:
	case <-timer.C:
		err = output.Refused("NoBrowser", "run the command again", "no browser came back within %s", browserTime)
	case <-ctx.Done():
		err = ctx.Err()
	case served := <-ended:
		return "", fmt.Errorf("cannot wait for the browser: %w", served)
	}
	// The browser's page is on its way; a moment lets it arrive.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if shut := server.Shutdown(closing); shut != nil && !errors.Is(shut, context.DeadlineExceeded) {
		err = errors.Join(err, shut)
	}
	return code, err
}
