//go:build acceptance

package backup_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/backup/backuptest"
	"slipway.dev/slipway/internal/fault"
)

// TestS3RealServer runs the suite against a real store, whose program VERSITYGW names; `make acceptance` builds it.
func TestS3RealServer(t *testing.T) {
	program := os.Getenv("VERSITYGW")
	if program == "" {
		t.Fatal("VERSITYGW must name the program of a store: run `make acceptance`")
	}
	c := startReal(t, program)
	s := open3(t, c)
	backuptest.Run(t, s)
	if got, err := s.Buckets(t.Context()); err != nil || !cmp.Equal(got, []string{"backups"}) {
		t.Errorf("buckets %v, %v: the bucket was not there before and must be now", got, err)
	}
	wrong := c
	wrong.Keys.Secret = "wrong" + secretKey
	if err := open3(t, wrong).Test(t.Context()); fault.ReasonOf(err) != "BadCredentials" || strings.Contains(err.Error(), secretKey) {
		t.Errorf("a wrong secret key: %s: %v", fault.ReasonOf(err), err)
	}
	wrong = c
	wrong.Region = "eu-north-7"
	if err := open3(t, wrong).Test(t.Context()); fault.ReasonOf(err) != "WrongRegion" {
		t.Errorf("a wrong region: %s: %v", fault.ReasonOf(err), err)
	}
}

// startReal starts versitygw over a directory, and gives how to reach it.
func startReal(t *testing.T, program string) backup.S3Config {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	c := fakeConfig("http://" + address)
	command := exec.Command(program, "--port", address, "--quiet", "posix", "--sidecar", t.TempDir(), data)
	command.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+c.Keys.Access, "ROOT_SECRET_KEY="+c.Keys.Secret)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// It ends by the signal, which Wait calls an error.
		if err := command.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		_ = command.Wait()
		if t.Failed() {
			t.Logf("the store said:\n%s", &output)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			return c
		}
		select {
		case <-ctx.Done():
			t.Fatal(errors.Join(err, ctx.Err()))
		case <-retry.C:
		}
	}
}
