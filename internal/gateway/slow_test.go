package gateway

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// served starts a TLS server of one protocol.
func served(t *testing.T, protocol string, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = protocol == "h2"
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// TestSlowReadersAreCut holds that a client that does not read its answer is cut, and a silent watch is not.
func TestSlowReadersAreCut(t *testing.T) {
	const limit = 200 * time.Millisecond
	for _, protocol := range []string{"h1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			ended := make(chan error, 1)
			server := served(t, protocol, func(w http.ResponseWriter, r *http.Request) {
				patient := newImpatient(w, limit)
				if r.URL.Path == "/silent" {
					timer := time.NewTimer(3 * limit)
					defer timer.Stop()
					for range 2 {
						fmt.Fprint(patient, "event\n")
						if err := http.NewResponseController(patient).Flush(); err != nil {
							t.Errorf("cannot flush: %v", err)
						}
						<-timer.C
						timer.Reset(0)
					}
					return
				}
				var err error
				for err == nil {
					_, err = patient.Write(make([]byte, 1<<20))
				}
				ended <- err
			})
			response, err := server.Client().Get(server.URL + "/silent")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if body, err := io.ReadAll(response.Body); err != nil || string(body) != "event\nevent\n" {
				t.Errorf("a watch that was silent for a while gave %q, %v", body, err)
			}
			unread, err := server.Client().Get(server.URL + "/endless")
			if err != nil {
				t.Fatal(err)
			}
			defer unread.Body.Close()
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Error("a client that does not read holds its answer for ever")
			}
		})
	}
}

// TestSlowBodiesAreCut holds that a client that does not send its body is cut.
func TestSlowBodiesAreCut(t *testing.T) {
	ended := make(chan error, 1)
	g := &gateway{}
	server := served(t, "h1", func(w http.ResponseWriter, r *http.Request) {
		g.limitBody(w, r, openBody, 200*time.Millisecond)
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	})
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the body ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a client that does not send its body is waited for")
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := newBounded(listener, 3, 2)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })}
	go func() { _ = server.Serve(b) }()
	defer server.Close()
	dial := func(from string) net.Conn {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := dialer.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	answers := func(conn net.Conn) bool {
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if err != nil {
			return false
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == 200
	}
	first := dial("127.0.0.1")
	for i, c := range []struct {
		conn net.Conn
		want bool
		why  string
	}{
		{first, true, "the first"},
		{dial("127.0.0.1"), true, "the second of two"},
		{dial("127.0.0.1"), false, "more than a client may have"},
		{dial("127.0.0.2"), true, "another client"},
		{dial("127.0.0.3"), false, "more than all may have"},
	} {
		if got := answers(c.conn); got != c.want {
			t.Errorf("connection %d (%s) answers: %v, want %v", i, c.why, got, c.want)
		}
	}
	first.Close()
	deadline := time.Now().Add(10 * time.Second)
	for !answers(dial("127.0.0.1")) {
		if time.Now().After(deadline) {
			t.Fatal("a connection that closed makes no room")
		}
	}
}

// TestRapidReset opens streams and resets them at once, as fast as it can: no more handlers may run than streams are
// allowed, and others are served meanwhile.
func TestRapidReset(t *testing.T) {
	var running, most atomic.Int64
	var mu sync.Mutex
	release := make(chan struct{})
	directory := t.TempDir()
	port, err := Listen(t.Context(), PortConfig{Address: "127.0.0.1:0", DataDir: directory})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = port.Serve(t.Context(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				return
			}
			mu.Lock()
			most.Store(max(most.Load(), running.Add(1)))
			mu.Unlock()
			<-release
			running.Add(-1)
		}))
	}()
	defer close(release)
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	conn, err := tls.Dial("tcp", port.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var out strings.Builder
	frame := func(kind, flags byte, stream uint32, payload string) {
		head := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))[1:]
		out.Write(binary.BigEndian.AppendUint32(append(head, kind, flags), stream))
		out.WriteString(payload)
	}
	out.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	frame(4, 0, 0, "")
	const streams = 20 * streamsLimit
	for i := range uint32(streams) {
		// :method GET, :scheme https, :path / and :authority h, then CANCEL.
		frame(1, 5, 2*i+1, "\x82\x87\x84\x41\x01h")
		frame(3, 0, 2*i+1, "\x00\x00\x00\x08")
	}
	// The server may close the connection meanwhile, which is its right.
	_, _ = io.WriteString(conn, out.String())
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	goAway := false
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(conn, head); err != nil {
			break
		}
		length := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
		if _, err := io.CopyN(io.Discard, conn, length); err != nil {
			break
		}
		if goAway = head[3] == 7; goAway {
			break
		}
	}
	if !goAway {
		t.Error("the connection was not told to go away")
	}
	if n := most.Load(); n == 0 || n > streamsLimit {
		t.Errorf("%d handlers ran at the same time for streams that were reset, %d are allowed", n, streamsLimit)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	response, err := client.Get("https://" + port.Addr().String() + "/other")
	if err != nil {
		t.Fatalf("others are not served meanwhile: %v", err)
	}
	response.Body.Close()
}
