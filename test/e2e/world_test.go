package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// world is one server with its data directory and sandbox.
type world struct {
	t          *testing.T
	slipway    string
	kubernetes string
	store      string
	data       string
	kubeconfig string
	server     *exec.Cmd
	listen     string
	// setUp holds the set-up link that the server printed last.
	setUp chan string
	// said is all that commands have printed.
	said strings.Builder
}

// newWorld makes the directory of a world and sees to it that nothing of it stays.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, slipway: os.Getenv("SLIPWAY"), kubernetes: os.Getenv("KUBERNETES"), store: os.Getenv("STORE"), data: t.TempDir(),
		setUp: make(chan string, 1),
	}
	if w.slipway == "" || w.kubernetes == "" || w.store == "" {
		t.Fatal("SLIPWAY, KUBERNETES and STORE must be set: run `make test`")
	}
	w.kubeconfig = filepath.Join(w.data, "demo.kubeconfig")
	t.Cleanup(func() {
		if t.Failed() {
			w.report()
		}
		w.stopServer()
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if out, err := exec.CommandContext(ctx, w.slipway, "sandbox", "down", "--data-dir", w.data).CombinedOutput(); err != nil {
			t.Errorf("cannot remove the sandbox: %v\n%s", err, out)
		}
	})
	return w
}

// report prints what a person would look at first.
func (w *world) report() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, args := range [][]string{{"get", "operations,hosts,clusters", "-A", "-o", "yaml"}} {
		out, err := w.command(ctx, args...).CombinedOutput()
		w.t.Logf("slipway %s (%v):\n%s", strings.Join(args, " "), err, tail(out, 20000))
	}
	log, err := os.ReadFile(filepath.Join(w.data, "server.log"))
	w.t.Logf("server log (%v):\n%s", err, tail(log, 8000))
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// startServer starts the server and waits until it says that it serves.
func (w *world) startServer(ctx context.Context) {
	w.t.Helper()
	listen := "0.0.0.0:0"
	if w.listen != "" {
		listen = w.listen // Hosts and kubeconfigs know the port of the first start.
	}
	log, err := os.OpenFile(filepath.Join(w.data, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	w.server = exec.Command(w.slipway, "server", "--data-dir", w.data, "--bundles", w.store, "--listen", listen)
	w.server.Stderr = log
	out, err := w.server.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.server.Start(); err != nil {
		w.t.Fatal(err)
	}
	serving := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if url, ok := strings.CutPrefix(lines.Text(), "serving https://"); ok {
				serving <- url
			}
			if _, link, ok := strings.Cut(lines.Text(), "set-up link, for one use within the hour: "); ok {
				select {
				case <-w.setUp: // Of an earlier start.
				default:
				}
				w.setUp <- link
			}
		}
		close(serving)
	}()
	select {
	case url, ok := <-serving:
		if !ok {
			w.t.Fatal("the server ended before it served")
		}
		w.listen = "0.0.0.0:" + url[strings.LastIndex(url, ":")+1:]
	case <-ctx.Done():
		w.t.Fatal("the server did not serve in time")
	}
}

// verifyBundle waits until the server has found the bundle and read every blob.
func (w *world) verifyBundle(ctx context.Context) {
	w.t.Helper()
	w.run(ctx, "wait", "--for=create", "--timeout=1m", "bundle/"+w.kubernetes)
	w.run(ctx, "wait", "--for=condition=Verified", "--timeout=10m", "bundle/"+w.kubernetes)
}

// stopServer stops the server as an operator would.
func (w *world) stopServer() { w.endServer(syscall.SIGTERM) }

func (w *world) endServer(signal syscall.Signal) {
	if w.server == nil {
		return
	}
	if err := w.server.Process.Signal(signal); err != nil && w.server.ProcessState == nil {
		w.t.Errorf("cannot signal the server: %v", err)
	}
	err := w.server.Wait()
	if signal == syscall.SIGTERM && err != nil {
		w.t.Errorf("the server did not stop cleanly: %v", err)
	}
	w.server = nil
}

func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.slipway, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(w.data, "admin.kubeconfig"))
	return cmd
}

// run runs slipway and gives what it printed; it must succeed.
func (w *world) run(ctx context.Context, args ...string) string {
	w.t.Helper()
	begun := time.Now()
	var out bytes.Buffer
	cmd := w.command(ctx, args...)
	cmd.Stdout = &out
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	err := cmd.Run()
	w.said.WriteString(out.String() + errOut.String())
	if err != nil {
		w.t.Fatalf("slipway %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), errOut.Bytes())
	}
	w.t.Logf("slipway %s: %.1f s", strings.Join(args, " "), time.Since(begun).Seconds())
	return out.String()
}

// refused runs slipway, which must fail, and gives all it printed.
func (w *world) refused(ctx context.Context, t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := w.command(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	w.said.Write(out)
	if err == nil {
		t.Fatalf("slipway %s succeeded:\n%s", strings.Join(args, " "), out)
	}
	return string(out)
}

// kubectl runs one of kubectl's verbs against the cluster demo itself, through Slipway.
func (w *world) kubectl(ctx context.Context, t *testing.T, stdin string, args ...string) string {
	t.Helper()
	return w.kubectlBy(ctx, t, w.kubeconfig, stdin, args...)
}

// kubectlBy does so with another kubeconfig.
func (w *world) kubectlBy(ctx context.Context, t *testing.T, kubeconfig, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, w.slipway, append([]string{"--kubeconfig", kubeconfig}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), errOut.Bytes())
	}
	return out.String()
}

// sandboxHost is what `slipway sandbox list -o json` says of a host.
type sandboxHost struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	KeyFile string `json:"keyFile"`
}

func (w *world) sandboxHosts(ctx context.Context) []sandboxHost {
	w.t.Helper()
	var hosts []sandboxHost
	out := w.run(ctx, "sandbox", "list", "--data-dir", w.data, "-o", "json")
	if err := json.Unmarshal([]byte(out), &hosts); err != nil {
		w.t.Fatalf("cannot read the sandbox's hosts: %v\n%s", err, out)
	}
	return hosts
}

// onHost runs a command on a sandbox host with plain ssh, past everything of ours.
func (w *world) onHost(ctx context.Context, h sandboxHost, command string) string {
	w.t.Helper()
	out, err := w.ssh(ctx, h, command)
	if err != nil {
		w.t.Fatalf("%s on %s: %v\n%s", command, h.Name, err, out)
	}
	return out
}

func (w *world) ssh(ctx context.Context, h sandboxHost, command string) (string, error) {
	out, err := w.sshCommand(ctx, h, command).CombinedOutput()
	return string(out), err
}

// state describes everything on a host that a cluster could leave behind, by subject.
type state map[string][]string

// hosts reads the state of every sandbox host.
func (w *world) hosts(ctx context.Context) map[string]state {
	all := map[string]state{}
	for _, h := range w.sandboxHosts(ctx) {
		s := state{}
		for subject, command := range map[string]string{
			// Logs, caches, what the kernel mounts when it likes (fusectl) and the clock's own files change by themselves.
			"files": `find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/tmp -o -path /var/log/journal ` +
				`-o -path /var/lib/systemd -o -path /root/.bash_history -o -path /var/log/wtmp -o -path /var/log/lastlog -o -path /var/log/btmp ` +
				`-o -path /var/cache/ldconfig \) -prune -o ! -type d -printf '%M %u:%g %s %p -> %l\n' -o -type d -printf '%M %u:%g %p\n'`,
			"units":       `systemctl list-unit-files --no-legend --plain | awk '{print $1, $2}'`,
			"failed":      `systemctl list-units --failed --no-legend --plain | awk '{print $1}'`,
			"mounts":      `awk '$3 != "fusectl" {print $2, $3}' /proc/mounts`,
			"links":       `ip -o link | awk -F'[:@] *' '{print $2}'`,
			"addresses":   `ip -o -4 address | awk '{print $2, $4}'`,
			"routes":      `ip route; ip rule`,
			"nftables":    `nft -s list ruleset`,
			"processes":   `ps -eo comm= | grep -E 'kube|containerd|runc|etcd|coredns|flannel|pause' || true`,
			"sysctls":     `sysctl -a 2>/dev/null | grep -E '^(net.ipv4.ip_forward|net.bridge|kernel.panic|kernel.keys|vm.overcommit_memory|vm.panic_on_oom|net.ipv4.conf.all.route_localnet)' || true`,
			"runtimedirs": `find /run -maxdepth 1 \( -name 'flannel*' -o -name 'containerd*' -o -name 'xtables*' -o -name 'runc' \)`,
		} {
			lines := strings.Split(strings.TrimSpace(w.onHost(ctx, h, command)), "\n")
			slices.Sort(lines)
			s[subject] = lines
		}
		all[h.Name] = s
	}
	return all
}

// until asks again with growing pauses until done says yes; what is asked has no events, or is asked over plain ssh.
func until(ctx context.Context, t *testing.T, what string, done func() bool) {
	t.Helper()
	pause := 200 * time.Millisecond
	for !done() {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			t.Fatalf("gave up waiting for %s", what)
		case <-timer.C:
		}
		pause = min(2*pause, 2*time.Second)
	}
}

func logf(t *testing.T, begun time.Time, format string, values ...any) {
	t.Helper()
	t.Logf("%s: %.1f s", fmt.Sprintf(format, values...), time.Since(begun).Seconds())
}
