package fake_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/host/hosttest"
)

func newHost() *fake.Host {
	return fake.New("w1", v1alpha1.HostFacts{MachineID: "1", Kernel: "6.1.0", Architecture: "amd64", CPUs: 2, MemoryBytes: 4 << 30, Memory: "4Gi"})
}

func TestConformance(t *testing.T) {
	hosttest.Run(t, func(t *testing.T) hosttest.Env {
		h := newHost()
		h.SetDialer((&net.Dialer{}).DialContext)
		return hosttest.Env{
			Session:   h,
			Dir:       "/srv/test",
			Place:     host.DefaultFencePlace(),
			Cut:       h.Cut,
			Reconnect: func(*testing.T) host.Session { return h },
			Orphan: func(t *testing.T) func() {
				if _, err := h.Writer(host.Fence{Owner: "alpha", Epoch: 1}).Run(t.Context(), host.Command{Argv: []string{"true"}}); err != nil {
					t.Fatal(err)
				}
				return h.Orphan("cat")
			},
			Listen: echo,
		}
	})
}

// echo listens on loopback and sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

func mustRun(t *testing.T, w host.Writer, argv ...string) {
	t.Helper()
	if _, err := w.Run(t.Context(), host.Command{Argv: argv}); err != nil {
		t.Fatal(err)
	}
}

// TestInject: a cut before the command leaves no effect, every later cut leaves it; all say OutcomeUnknown.
func TestInject(t *testing.T) {
	cases := map[string]struct {
		reason string
		at     fake.Point
		effect bool
	}{
		"BeforeCommand":  {"nothing has happened yet", fake.BeforeCommand, false},
		"InOutput":       {"the command has taken effect", fake.InOutput, true},
		"BeforeExitCode": {"only the exit code is lost", fake.BeforeExitCode, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHost()
			w := h.Writer(host.Fence{Owner: "alpha", Epoch: 1})
			h.Inject(fake.Fault{At: tc.at, Skip: 1, Match: func(argv []string) bool { return argv[0] == "touch" }})
			mustRun(t, w, "touch", "/srv/a")
			mustRun(t, w, "true")
			_, err := w.Run(t.Context(), host.Command{Argv: []string{"touch", "/srv/b"}})
			if fault.ReasonOf(err) != host.ReasonOutcomeUnknown {
				t.Fatalf("%s: got %v", tc.reason, err)
			}
			files, err := h.Stat(t.Context(), "/srv/b")
			if err != nil || files[0].Exists != tc.effect {
				t.Errorf("%s: %v, %v", tc.reason, files, err)
			}
			mustRun(t, w, "touch", "/srv/b")
		})
	}
}

// TestReboot: what is not written down is gone, what is enabled runs again.
func TestReboot(t *testing.T) {
	h := newHost()
	w := h.Writer(host.Fence{Owner: "alpha", Epoch: 7})
	for name, content := range map[string]string{"/etc/systemd/system/on.service": "", "/etc/systemd/system/off.service": "", "/run/x": "", "/etc/modules-load.d/a.conf": "overlay\n",
		"/etc/sysctl.d/a.conf": "# forward\nnet.ipv4.ip_forward = 1\n"} {
		if err := w.WriteFile(t.Context(), name, host.File{Content: []byte(content)}); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, w, "systemctl", "enable", "--now", "on")
	mustRun(t, w, "systemctl", "start", "off")
	mustRun(t, w, "modprobe", "overlay", "br_netfilter")
	mustRun(t, w, "sysctl", "-w", "vm.overcommit_memory=1")
	mustRun(t, w, "mount", "-t", "tmpfs", "tmpfs", "/srv")
	before := h.Snapshot()

	h.PowerOff()
	_, err := (fake.Sessions{"w1": h}).Session(t.Context(), "w1")
	if fault.ReasonOf(err) != host.ReasonUnreachable {
		t.Errorf("a host that is off gives %v", err)
	}
	if _, err := w.Run(t.Context(), host.Command{Argv: []string{"true"}}); fault.ReasonOf(err) != host.ReasonUnreachable {
		t.Errorf("a host that is off runs: %v", err)
	}
	h.PowerOn()
	if h.Snapshot() == before {
		t.Error("the snapshot does not see the reboot")
	}
	r, err := h.Query(t.Context(), host.Units("on.service", "off.service", "none.service"))
	if err != nil {
		t.Fatal(err)
	}
	units, err := host.DecodeUnits(r)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range units {
		got = append(got, u.ID+" "+u.LoadState+" "+u.ActiveState+" "+u.UnitFileState)
	}
	want := []string{"on.service loaded active enabled", "off.service loaded inactive disabled", "none.service not-found inactive "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	h.Do(func(s *fake.State) {
		if s.Lookup("/run/x") != nil || !s.Modules["overlay"] || s.Modules["br_netfilter"] || s.Sysctls["net.ipv4.ip_forward"] != "1" ||
			s.Sysctls["vm.overcommit_memory"] != "" || len(s.Mounts) != 0 {
			t.Errorf("after the reboot: modules %v, sysctls %v, mounts %v", s.Modules, s.Sysctls, s.Mounts)
		}
	})
	if _, err := h.Writer(host.Fence{Owner: "alpha", Epoch: 6}).Run(t.Context(), host.Command{Argv: []string{"true"}}); fault.ReasonOf(err) != host.ReasonFencedOff {
		t.Errorf("the holder was forgotten: %v", err)
	}
}

// TestUnitPrograms: a service runs the file that was there when it started, until it is restarted.
func TestUnitPrograms(t *testing.T) {
	const unit, program = "kubelet.service", "/usr/local/bin/kubelet"
	h := newHost()
	h.Do(func(s *fake.State) {
		s.UnitPrograms[unit] = program
		for _, path := range []string{program, "/etc/systemd/system/" + unit} {
			if err := s.WriteFile(path, []byte("old"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	})
	w := h.Writer(host.Fence{Owner: "alpha", Epoch: 1})
	exe := func() string {
		units, err := host.QueryUnits(t.Context(), h, unit)
		if err != nil {
			t.Fatal(err)
		}
		info, err := h.Stat(t.Context(), fmt.Sprintf("/proc/%d/exe", units[0].MainPID))
		if err != nil {
			t.Fatal(err)
		}
		return info[0].Target
	}
	mustRun(t, w, "systemctl", "start", unit)
	if got := exe(); got != program {
		t.Errorf("the service runs %q, want %s", got, program)
	}
	if err := w.WriteFile(t.Context(), program+".new", host.File{Content: []byte("new"), Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	mustRun(t, w, "mv", "--force", "--no-target-directory", program+".new", program)
	if got := exe(); got != program+" (deleted)" {
		t.Errorf("the service runs %q, want the file of before", got)
	}
	mustRun(t, w, "systemctl", "restart", unit)
	if got := exe(); got != program {
		t.Errorf("the service runs %q, want the new file", got)
	}
	if strings.Contains(h.Snapshot(), "/proc/") {
		t.Error("the number of a process is part of the state")
	}
}

// TestSnapshot: two ways to one end look the same, whatever the epochs; a difference shows.
func TestSnapshot(t *testing.T) {
	one, two := newHost(), newHost()
	mustRun(t, one.Writer(host.Fence{Owner: "alpha", Epoch: 1}), "mkdir", "-p", "/srv/a/b")
	mustRun(t, two.Writer(host.Fence{Owner: "alpha", Epoch: 3}), "mkdir", "/srv/a")
	mustRun(t, two.Writer(host.Fence{Owner: "alpha", Epoch: 4}), "mkdir", "/srv/a/b")
	if diff := cmp.Diff(one.Snapshot(), two.Snapshot()); diff != "" {
		t.Error(diff)
	}
	mustRun(t, two.Writer(host.Fence{Owner: "alpha", Epoch: 4}), "chmod", "700", "/srv/a/b")
	if one.Snapshot() == two.Snapshot() {
		t.Error("another mode does not show")
	}
	clean := newHost()
	empty := clean.Snapshot()
	w := clean.Writer(host.Fence{Owner: "alpha", Epoch: 1})
	mustRun(t, w, "touch", "/srv/a")
	if err := w.Remove(t.Context(), "/srv/a", "/var/lib/slipway"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(empty, clean.Snapshot()); diff != "" {
		t.Errorf("a released host is not as it was: %s", diff)
	}
}

// TestObserve: every write that the fence lets in is told before and after, refused ones are not.
func TestObserve(t *testing.T) {
	h := newHost()
	var seen []string
	h.Observe(func(e fake.Event) { seen = append(seen, fmt.Sprintf("%d %s %t", e.Seq, e.Argv[0], e.Done)) })
	w := h.Writer(host.Fence{Owner: "alpha", Epoch: 2})
	mustRun(t, w, "true")
	if err := w.WriteFile(t.Context(), "/srv/a", host.File{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Writer(host.Fence{Owner: "beta", Epoch: 2}).Run(t.Context(), host.Command{Argv: []string{"true"}}); err == nil {
		t.Error("another owner was let in")
	}
	if diff := cmp.Diff([]string{"1 true false", "1 true true", "2 write-file false", "2 write-file true"}, seen); diff != "" {
		t.Error(diff)
	}
	if h.Writes() != 2 || h.Commands() != 3 {
		t.Errorf("%d writes and %d commands were counted, want 2 and 3", h.Writes(), h.Commands())
	}
}

// TestFull: a full disk takes no file and gives back what is removed.
func TestFull(t *testing.T) {
	h := newHost()
	w := h.Writer(host.Fence{Owner: "alpha", Epoch: 1})
	if err := w.WriteFile(t.Context(), "/srv/a", host.File{Content: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	h.Do(func(s *fake.State) { s.Full = true })
	if err := w.WriteFile(t.Context(), "/srv/a", host.File{Content: []byte("b")}); err == nil || !strings.Contains(err.Error(), "No space left on device") {
		t.Errorf("a write on a full disk says %v", err)
	}
	if content, err := h.ReadFile(t.Context(), "/srv/a"); err != nil || string(content) != "a" {
		t.Errorf("the file of before is %q %v", content, err)
	}
	if err := w.Remove(t.Context(), "/srv/a"); err != nil {
		t.Errorf("nothing can be removed from a full disk: %v", err)
	}
}

// TestReach: who answers, who refuses and where nobody is are three things.
func TestReach(t *testing.T) {
	h := newHost()
	open, nobody := netip.MustParseAddrPort("10.0.0.5:22"), netip.MustParseAddr("10.0.0.9")
	h.SetReach(func(a netip.AddrPort) bool { return a == open })
	h.SetAbsent(func(a netip.AddrPort) bool { return a.Addr() == nobody })
	for address, want := range map[string]string{"10.0.0.5:22": "", "10.0.0.5:23": "refused", "10.0.0.9:22": "No route"} {
		ok, detail, err := host.QueryReach(t.Context(), h, address, 1)
		if err != nil || ok != (want == "") || !strings.Contains(detail, want) {
			t.Errorf("%s: %t %q %v, want %q", address, ok, detail, err, want)
		}
	}
}

// TestQueries: what the fake answers, the decoders read.
func TestQueries(t *testing.T) {
	h := newHost()
	h.Handle("kubeadm", func(*fake.State, fake.Call) host.Result { return fake.Print("v1.36.3\n") })
	address := netip.MustParseAddrPort("10.0.0.5:6443")
	h.SetReach(func(a netip.AddrPort) bool { return a == address })
	links := []host.Link{{Name: "cni0", Kind: "bridge", MTU: 1450, Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("172.25.0.1/24")}}}
	mounts := []host.Mount{{Path: "/var/lib/a b", Type: "tmpfs", Source: "tmpfs", Root: "/", Options: []string{"rw"}}}
	images := map[string]host.Image{"a:1": {Digest: "sha256:" + strings.Repeat("0", 64), Labels: map[string]string{"x": "y"}}}
	h.Do(func(s *fake.State) {
		s.Links, s.Mounts, s.Images = links, mounts, images
		s.Listening[address] = true
		s.Names["api"] = []netip.Addr{address.Addr()}
		s.Processes = []host.Process{{PID: 7, Name: "kubelet"}}
		s.Containers = []host.Process{{PID: 8, Name: "containerd-shim"}, {PID: 9, Name: "etcd"}}
		s.IP6Tables = "*filter\n"
		for _, path := range []string{"/usr/bin/kubeadm", "/usr/bin/ctr", "/run/containerd/containerd.sock"} {
			if err := s.WriteFile(path, nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	})
	query := func(q host.Query) host.Result {
		t.Helper()
		r, err := h.Query(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	same := func(what string, want, got any, err error) {
		t.Helper()
		if err != nil || fmt.Sprint(want) != fmt.Sprint(got) {
			t.Errorf("%s: got %v, %v, want %v", what, got, err, want)
		}
	}
	gotLinks, err := host.DecodeLinks(query(host.Links()))
	same("links", links, gotLinks, err)
	gotMounts, err := host.DecodeMounts(query(host.Mounts()))
	same("mounts", mounts, gotMounts, err)
	gotImages, err := host.DecodeImages(query(host.ContainerImages("/usr/bin/ctr", "/run/containerd/containerd.sock")))
	same("images", images, gotImages, err)
	listening, err := host.DecodeListening(query(host.Listening()))
	same("listening", []netip.AddrPort{address}, listening, err)
	names, err := host.DecodeAddresses(query(host.Resolve("api")))
	same("names", []netip.Addr{address.Addr()}, names, err)
	processes, err := host.DecodeProcesses(query(host.Processes("kubelet")))
	same("processes", []host.Process{{PID: 7, Name: "kubelet"}}, processes, err)
	processes, err = host.DecodeProcesses(query(host.ContainerProcesses()))
	same("containers", []host.Process{{PID: 8, Name: "containerd-shim"}, {PID: 9, Name: "etcd"}}, processes, err)
	rules, err := host.DecodeRules(query(host.IPTablesOf("ip6tables")))
	same("ip6tables", []string{"*filter"}, rules, err)
	open, detail := host.DecodeReach(query(host.Reach(address.Addr(), 6443, 5)))
	same("reach", true, open, nil)
	_, detail = host.DecodeReach(query(host.Reach(address.Addr(), 1, 5)))
	same("reach", "Connection refused", detail, nil)
	same("version", "v1.36.3\n", string(query(host.Version("/usr/bin/kubeadm", host.VersionShort)).Stdout), nil)
	sysctls, err := host.DecodeSysctls(query(host.Sysctls("net.ipv4.ip_forward", "no.such")))
	same("sysctls", map[string]string{"net.ipv4.ip_forward": "0"}, sysctls, err)
}
