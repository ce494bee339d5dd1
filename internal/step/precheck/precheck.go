// Package precheck owns the step that looks at a host before anything on it is changed.
// It must never change anything, and every finding names the host, the rule, what was found and what is needed.
package precheck

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// Finding is one rule that a host breaks.
type Finding struct {
	Host string `json:"host"`
	// Rule is a short permanent name, such as memory or port.
	Rule string `json:"rule"`
	// Found and Needed are for people.
	Found  string `json:"found"`
	Needed string `json:"needed"`
}

// String reads "host w1: memory: found 1.0Gi, needs 2.0Gi".
func (f Finding) String() string {
	return fmt.Sprintf("host %s: %s: found %s, needs %s", f.Host, f.Rule, f.Found, f.Needed)
}

// Refusal makes one Terminal error of findings, or nil of none.
func Refusal(findings []Finding) error {
	if len(findings) == 0 {
		return nil
	}
	lines := make([]string, len(findings))
	for i, f := range findings {
		lines[i] = f.String()
	}
	return fault.NewTerminal("PrecheckFailed", "mend what is named, then retry; nothing was changed on any host",
		errors.New("cannot accept the hosts: "+strings.Join(lines, "; ")))
}

// Look checks a host live: ports, leftovers, name resolution, the way to the server and to the other hosts.
type Look struct {
	// Cluster is the UID of the cluster. A host that carries its marker was looked at before it was changed.
	Cluster string `json:"cluster"`
	// Ports must be free.
	Ports []int `json:"ports"`
	// Absent paths must not exist, or be empty directories.
	Absent []string `json:"absent"`
	// Names must resolve.
	Names []string `json:"names,omitempty"`
	// Peers are HOST:PORT of the other hosts' sshd.
	Peers []string `json:"peers,omitempty"`
	// Free are HOST:PORT where nothing may answer yet.
	Free []string `json:"free,omitempty"`
	// CA is the certificate authority of the server, PEM. Without one nobody asks who answers at the server's address.
	CA string `json:"ca,omitempty"`
}

// ID is stored in plans.
func (Look) ID() step.ID { return "precheck.look/v1" }

// Check looks. A broken rule is a Terminal error that lists them all.
func (l Look) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	marker, err := host.ReadIfExists(ctx, r, step.MarkerPath)
	if err != nil {
		return nil, err
	}
	owner := strings.TrimSpace(string(marker))
	if owner == l.Cluster {
		return nil, nil
	}
	p := &problems{host: r.Target.Name}
	if owner != "" {
		p.add("leftovers", "the marker of cluster "+owner, "a host of no cluster")
	}
	for _, look := range []func(context.Context, step.Reader, *problems) error{l.ports, l.leftovers, l.names, l.reach, l.free} {
		if err := look(ctx, r, p); err != nil {
			return nil, err
		}
	}
	return nil, Refusal(p.findings)
}

// Apply has nothing to do.
func (Look) Apply(context.Context, step.Writer) error { return nil }

type problems struct {
	host     string
	findings []Finding
}

func (p *problems) add(rule, found, needed string) {
	p.findings = append(p.findings, Finding{Host: p.host, Rule: rule, Found: found, Needed: needed})
}

func (l Look) ports(ctx context.Context, r step.Reader, p *problems) error {
	listening, err := host.QueryListening(ctx, r)
	if err != nil {
		return err
	}
	for _, port := range l.Ports {
		if listening[port] {
			p.add("port", fmt.Sprintf("port %d in use", port), fmt.Sprintf("port %d free", port))
		}
	}
	return nil
}

func (l Look) leftovers(ctx context.Context, r step.Reader, p *problems) error {
	entries, err := host.QueryTree(ctx, r, l.Absent...)
	if err != nil {
		return err
	}
	roots := map[string]bool{}
	for _, e := range entries {
		for _, root := range l.Absent {
			// An empty directory, such as the mount point of a disk for etcd, is no leftover.
			if e.Path == root && e.Mode.IsDir() || roots[root] || e.Path == root+"/lost+found" {
				continue
			}
			if e.Path == root || strings.HasPrefix(e.Path, root+"/") {
				roots[root] = true
				p.add("leftovers", e.Path, "a host without Kubernetes or a container runtime")
			}
		}
	}
	return nil
}

func (l Look) names(ctx context.Context, r step.Reader, p *problems) error {
	for _, name := range l.Names {
		found, err := host.QueryResolve(ctx, r, name)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			p.add("name", name+" does not resolve", name+" resolves")
		}
	}
	return nil
}

// reachSeconds is how long a host may take to reach another.
const reachSeconds = 5

func (l Look) reach(ctx context.Context, r step.Reader, p *problems) error {
	for _, to := range append([]string{r.Target.Platform}, l.Peers...) {
		ok, detail, err := host.QueryReach(ctx, r, to, reachSeconds)
		if err != nil {
			return err
		}
		if ok && to == r.Target.Platform {
			if err := l.identity(ctx, r, p); err != nil {
				return err
			}
		}
		if ok {
			continue
		}
		if to == r.Target.Platform {
			p.add("server", "no way to the server at "+to+": "+detail, "the server's registry reachable; set the address in Setting platform")
		} else {
			p.add("peer", "no way to "+to+": "+detail, "the hosts of a cluster reach each other")
		}
	}
	return nil
}

// freeSeconds is how long an address may stay silent before it is taken for free.
const freeSeconds = 1

// free proves that nobody has the addresses that are to be the cluster's: a refusal is an answer too.
func (l Look) free(ctx context.Context, r step.Reader, p *problems) error {
	if !r.Target.ControlPlane {
		return nil // A control plane that is marked is not asked again, but a worker may be when the cluster already serves.
	}
	for _, to := range l.Free {
		ok, detail, err := host.QueryReach(ctx, r, to, freeSeconds)
		if err != nil {
			return err
		}
		if ok || strings.Contains(strings.ToLower(detail), "refused") {
			p.add("endpoint", "another machine answers at "+to, "an address that nobody has")
		}
	}
	return nil
}

// Mark writes which cluster the host belongs to. It is the first change on a host.
type Mark struct {
	// Cluster is the UID of the cluster.
	Cluster string `json:"cluster"`
	// Paths are looked for now, so that those that appear later can be removed again.
	Paths []string `json:"paths,omitempty"`
}

// ID is stored in plans.
func (Mark) ID() step.ID { return "precheck.mark/v1" }

func (m Mark) file() host.File { return host.File{Content: []byte(m.Cluster + "\n")} }

// Check compares the marker.
func (m Mark) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	err := drift.WantFile(ctx, r, step.MarkerPath, m.file())
	return drift, err
}

// Apply remembers firewall tables and absent paths and then writes the marker, which says that both are done.
func (m Mark) Apply(ctx context.Context, w step.Writer) error {
	tables, err := host.QueryTables(ctx, w)
	if err != nil {
		return err
	}
	if err := w.WriteFile(ctx, step.BeforeTables, host.File{Content: []byte(strings.Join(tables, "\n") + "\n")}); err != nil {
		return fmt.Errorf("cannot remember the firewall tables: %w", err)
	}
	info, err := w.Stat(ctx, m.Paths...)
	if err != nil {
		return fmt.Errorf("cannot look for paths: %w", err)
	}
	var absent strings.Builder
	for _, i := range info {
		if !i.Exists {
			absent.WriteString(i.Path + "\n")
		}
	}
	if err := w.WriteFile(ctx, step.BeforeAbsent, host.File{Content: []byte(absent.String())}); err != nil {
		return fmt.Errorf("cannot remember absent paths: %w", err)
	}
	return w.WriteFile(ctx, step.MarkerPath, m.file())
}
