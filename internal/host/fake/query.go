package fake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"slipway.dev/slipway/internal/host"
)

// ReadFile gives the content of a regular file.
func (h *Host) ReadFile(ctx context.Context, path string) ([]byte, error) {
	r, err := h.Query(ctx, host.FileQuery(path))
	return host.DecodeFile(path, r, err)
}

// Stat describes every path.
func (h *Host) Stat(ctx context.Context, paths ...string) ([]host.FileInfo, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	r, err := h.Query(ctx, host.Stats(paths...))
	if err != nil {
		return nil, err
	}
	return host.DecodeStats(r, paths)
}

// Query answers from the state, in the words of the real tools.
func (h *Host) Query(ctx context.Context, q host.Query) (host.Result, error) {
	if err := q.Err(); err != nil {
		return host.Result{}, err
	}
	if _, err := h.begin(ctx); err != nil {
		return host.Result{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.state.answer(q)
	return r, q.Failure(r)
}

func (s *State) answer(q host.Query) host.Result {
	args := q.Args()
	var out bytes.Buffer
	switch q.Name() {
	case "file":
		return s.answerFile(args[0])
	case "chunk":
		return s.answerChunk(args)
	case "listing":
		out.Write(host.EncodeListing(s.listing(args[0])))
	case "stats", "tree":
		var found []host.FileInfo
		for _, p := range args {
			tree := s.Tree(p)
			if q.Name() == "stats" {
				tree = tree[:min(len(tree), 1)]
			}
			found = append(found, tree...)
		}
		out.Write(host.EncodeTree(found))
	case "digests":
		for _, p := range args {
			if content, err := s.ReadFile(p); err == nil {
				fmt.Fprintf(&out, "%x  %s\x00", sha256.Sum256(content), p)
			}
		}
	case "units":
		for _, name := range args[slices.Index(args, "--")+1:] {
			out.WriteString(s.describeUnit(name))
		}
	case "sysctls":
		for _, key := range args {
			if value, ok := s.Sysctls[key]; ok {
				fmt.Fprintf(&out, "%s\t%s\n", key, value)
			}
		}
	case "processes":
		for _, p := range slices.Concat(s.Processes, s.Containers) {
			if slices.Contains(args, p.Name) {
				fmt.Fprintf(&out, "%d\t%s\n", p.PID, p.Name)
			}
		}
	case "containerprocesses":
		for _, p := range s.Containers {
			fmt.Fprintf(&out, "%d\t%s\n", p.PID, p.Name)
		}
	case "version":
		return s.answerVersion(args)
	case "holder":
		out.Write(s.holder())
	case "bootid":
		fmt.Fprintf(&out, "00000000-0000-4000-8000-%012d\n", s.host.boots)
	case "journal":
		fmt.Fprintln(&out, "-- No entries --")
	default:
		return s.answerNetwork(q.Name(), args)
	}
	return host.Result{Stdout: out.Bytes()}
}

func (s *State) answerNetwork(name string, args []string) host.Result {
	var out bytes.Buffer
	switch name {
	case "modules":
		for m := range s.Modules {
			fmt.Fprintf(&out, "%s 16384 0 - Live 0x0\n", m)
		}
	case "mounts":
		for i, m := range s.Mounts {
			fmt.Fprintf(&out, "%d 1 0:%d %s %s rw - %s %s rw\n", 100+i, i, escape(m.Root), escape(m.Path), m.Type, escape(m.Source))
		}
	case "listening":
		for a := range s.Listening {
			fmt.Fprintf(&out, "0: %s 00000000:0000 0A\n", socket(a))
		}
	case "links":
		return s.answerLinks()
	case "routes":
		out.WriteString(s.Routes)
	case "nftables":
		out.WriteString(s.NFTables)
	case "iptables":
		out.WriteString(s.IPTables)
	case "iptablesof":
		out.WriteString(map[string]string{"iptables": s.IPTables, "ip6tables": s.IP6Tables}[args[0]])
	case "resolve":
		for _, a := range s.Names[args[0]] {
			fmt.Fprintf(&out, "%s STREAM %s\n", a, args[0])
		}
	case "reach":
		address, err := netip.ParseAddrPort(strings.Join([]string{"[" + args[0] + "]", args[1]}, ":"))
		if err != nil {
			address, err = netip.ParseAddrPort(args[0] + ":" + args[1])
		}
		switch {
		case err == nil && s.host.reach != nil && s.host.reach(address):
			fmt.Fprintln(&out, "open")
		case err == nil && s.host.absent != nil && s.host.absent(address):
			fmt.Fprintln(&out, "reach: connect: No route to host")
		default:
			fmt.Fprintln(&out, "reach: connect: Connection refused")
		}
	case "images":
		// The client is a program of the host, and has nobody to ask when the daemon does not listen.
		if s.Lookup(args[0]) == nil {
			return Fail(127, args[0]+": not found")
		}
		if s.Lookup(args[2]) == nil {
			return Fail(1, "ctr: failed to dial "+args[2]+": no such file or directory")
		}
		fmt.Fprintln(&out, "REF TYPE DIGEST SIZE PLATFORMS LABELS")
		for name, image := range s.Images {
			labels := []string{}
			for k, v := range image.Labels {
				labels = append(labels, k+"="+v)
			}
			slices.Sort(labels)
			if len(labels) == 0 {
				labels = []string{"-"}
			}
			fmt.Fprintf(&out, "%s application/vnd.oci.image.manifest.v1+json %s 1.0 MiB linux/amd64 %s\n", name, image.Digest, strings.Join(labels, ","))
		}
	default:
		return Fail(127, "the fake host cannot answer the query "+name)
	}
	return host.Result{Stdout: out.Bytes()}
}

func (s *State) answerFile(p string) host.Result {
	content, err := s.ReadFile(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return host.Result{ExitCode: 3}
	case err != nil:
		return host.Result{ExitCode: 4}
	}
	return host.Result{Stdout: bytes.Clone(content[:min(len(content), host.MaxFile+1)])}
}

// answerChunk gives a part of a file: PATH SIZE NUMBER.
func (s *State) answerChunk(args []string) host.Result {
	size, err1 := strconv.ParseInt(args[1], 10, 64)
	number, err2 := strconv.ParseInt(args[2], 10, 64)
	n := s.Lookup(args[0])
	switch {
	case errors.Join(err1, err2) != nil:
		return Fail(1, "dd: invalid number")
	case n == nil:
		return host.Result{ExitCode: 3}
	case !n.Mode.IsRegular():
		return host.Result{ExitCode: 4}
	}
	have := int64(len(n.Content))
	return host.Result{Stdout: bytes.Clone(n.Content[min(have, size*number):min(have, size*(number+1))])}
}

// listing gives the regular files right in a directory.
func (s *State) listing(dir string) []host.Entry {
	full, err := s.resolve(dir, true)
	if err != nil {
		return nil
	}
	var all []host.Entry
	for _, f := range s.Tree(full) {
		if path.Dir(f.Path) == full && f.Mode.IsRegular() {
			all = append(all, host.Entry{Name: path.Base(f.Path), Size: f.Size, Modified: s.files[f.Path].Modified})
		}
	}
	return all
}

func (s *State) answerVersion(argv []string) host.Result {
	if text, ok := s.Versions[argv[0]]; ok {
		return Print(text + "\n")
	}
	if s.Lookup(argv[0]) == nil {
		return Fail(127, argv[0]+": not found")
	}
	return s.Exec(Call{Argv: argv})
}

func (s *State) answerLinks() host.Result {
	type address struct {
		Local  string `json:"local"`
		Prefix int    `json:"prefixlen"`
	}
	type link struct {
		Name     string            `json:"ifname"`
		MAC      string            `json:"address"`
		MTU      int               `json:"mtu"`
		Flags    []string          `json:"flags"`
		LinkInfo map[string]string `json:"linkinfo,omitempty"`
		Address  []address         `json:"addr_info"`
	}
	links := []link{}
	for _, l := range s.Links {
		next := link{Name: l.Name, MAC: l.MAC, MTU: l.MTU, Flags: []string{}, Address: []address{}}
		if l.Up {
			next.Flags = append(next.Flags, "UP")
		}
		if l.Kind != "" {
			next.LinkInfo = map[string]string{"info_kind": l.Kind}
		}
		for _, a := range l.Addresses {
			next.Address = append(next.Address, address{a.Addr().String(), a.Bits()})
		}
		links = append(links, next)
	}
	out, err := json.Marshal(links)
	if err != nil {
		return Fail(1, err.Error())
	}
	return host.Result{Stdout: out}
}

// socket prints an address as /proc/net/tcp does.
func socket(a netip.AddrPort) string {
	raw := a.Addr().AsSlice()
	var b strings.Builder
	for i := 0; i < len(raw); i += 4 {
		fmt.Fprintf(&b, "%02X%02X%02X%02X", raw[i+3], raw[i+2], raw[i+1], raw[i])
	}
	return b.String() + ":" + fmt.Sprintf("%04X", a.Port())
}

func escape(s string) string {
	if s == "" {
		return "/"
	}
	return strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(s)
}

// describeUnit prints a unit as systemctl show does.
func (s *State) describeUnit(name string) string {
	u := s.unit(name)
	lines := []string{"Id=" + u.ID, "LoadState=" + u.LoadState, "ActiveState=" + u.ActiveState, "SubState=" + u.SubState,
		"UnitFileState=" + u.UnitFileState, "MainPID=" + strconv.Itoa(u.MainPID), "Result=" + u.Result, "ExecMainStatus=" + strconv.Itoa(u.ExitCode)}
	return strings.Join(lines, "\n") + "\n\n"
}
