package system

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

func isCommandError(err error) bool {
	var c *host.CommandError
	return errors.As(err, &c)
}

// StopFirewall stops and disables the firewall services a cluster cannot work behind.
type StopFirewall struct{}

// ID is stored in plans.
func (StopFirewall) ID() step.ID { return "system.stop-firewall/v1" }

func firewallUnits() []string { return []string{"firewalld.service", "ufw.service"} }

// Check asks systemd for each service.
func (StopFirewall) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	units, err := host.QueryUnits(ctx, r, firewallUnits()...)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	for _, u := range units {
		if u.ActiveState == "active" {
			drift.Want(u.ID, "active", "stopped")
		}
		if u.UnitFileState == "enabled" {
			drift.Want(u.ID+" at boot", "enabled", "disabled")
		}
	}
	return drift, nil
}

// Apply stops and disables those that are there.
func (f StopFirewall) Apply(ctx context.Context, w step.Writer) error {
	drift, err := f.Check(ctx, w.Reading)
	if err != nil {
		return err
	}
	for _, d := range drift {
		unit := strings.TrimSuffix(d.What, " at boot")
		if err := rememberUnits(ctx, w, unit); err != nil {
			return err
		}
		if _, err := w.Run(ctx, host.Command{Argv: []string{"systemctl", "disable", "--now", unit}}); err != nil {
			return fmt.Errorf("cannot stop %s: %w", unit, err)
		}
	}
	return nil
}

// SwapOff turns swap off, now and after a reboot.
type SwapOff struct{}

// ID is stored in plans.
func (SwapOff) ID() step.ID { return "system.swap-off/v1" }

// Check reads the active swap areas and /etc/fstab.
func (SwapOff) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	swaps, err := r.ReadFile(ctx, "/proc/swaps")
	if err != nil {
		return nil, fmt.Errorf("cannot read the active swap: %w", err)
	}
	var drift step.Drift
	if strings.Count(strings.TrimSpace(string(swaps)), "\n") > 0 {
		drift.Want("swap", "on", "off")
	}
	fstab, err := r.ReadFile(ctx, fstabPath)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", fstabPath, err)
	}
	if string(withoutSwap(fstab)) != string(fstab) {
		drift.Want(fstabPath, "has swap", "has none")
	}
	return drift, nil
}

const fstabPath = "/etc/fstab"

// withoutSwap turns every active swap line of an fstab into a comment.
func withoutSwap(fstab []byte) []byte {
	lines := strings.Split(string(fstab), "\n")
	for i, l := range lines {
		f := strings.Fields(l)
		if len(f) >= 3 && !strings.HasPrefix(f[0], "#") && f[2] == "swap" {
			lines[i] = step.SwapComment + l
		}
	}
	return []byte(strings.Join(lines, "\n"))
}

// Apply turns swap off and comments it out.
func (SwapOff) Apply(ctx context.Context, w step.Writer) error {
	if err := rememberSwaps(ctx, w); err != nil {
		return err
	}
	if _, err := w.Run(ctx, host.Command{Argv: []string{"swapoff", "--all"}}); err != nil {
		return fmt.Errorf("cannot turn swap off: %w", err)
	}
	fstab, err := w.ReadFile(ctx, fstabPath)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", fstabPath, err)
	}
	return w.WriteFile(ctx, fstabPath, host.File{Content: withoutSwap(fstab)})
}

func rememberSwaps(ctx context.Context, w step.Writer) error {
	swaps, err := w.ReadFile(ctx, "/proc/swaps")
	if err != nil {
		return fmt.Errorf("cannot read the active swap: %w", err)
	}
	var areas []string
	for i, line := range strings.Split(strings.TrimSpace(string(swaps)), "\n") {
		if f := strings.Fields(line); i > 0 && len(f) > 0 {
			areas = append(areas, f[0])
		}
	}
	return remember(ctx, w, step.BeforeSwaps, areas...)
}

// SELinuxPermissive makes SELinux permissive, now and after a reboot.
type SELinuxPermissive struct{}

// ID is stored in plans.
func (SELinuxPermissive) ID() step.ID { return "system.selinux-permissive/v1" }

const (
	selinuxLive   = step.SELinuxLive
	selinuxConfig = "/etc/selinux/config"
)

// Check reads the live mode and the one for the next boot.
func (SELinuxPermissive) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	info, err := r.Stat(ctx, selinuxLive, selinuxConfig)
	if err != nil {
		return nil, fmt.Errorf("cannot look for SELinux: %w", err)
	}
	var drift step.Drift
	if info[0].Exists {
		live, err := r.ReadFile(ctx, selinuxLive)
		if err != nil {
			return nil, fmt.Errorf("cannot read SELinux's mode: %w", err)
		}
		if strings.TrimSpace(string(live)) == "1" {
			drift.Want("SELinux", "enforcing", "permissive")
		}
	}
	if info[1].Exists {
		config, err := r.ReadFile(ctx, selinuxConfig)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", selinuxConfig, err)
		}
		if slices.Contains(strings.Split(string(config), "\n"), "SELINUX=enforcing") {
			drift.Want(selinuxConfig, "enforcing", "permissive")
		}
	}
	return drift, nil
}

// Apply changes both.
func (s SELinuxPermissive) Apply(ctx context.Context, w step.Writer) error {
	drift, err := s.Check(ctx, w.Reading)
	if err != nil {
		return err
	}
	for _, d := range drift {
		place := strings.Replace(d.What, "SELinux", selinuxLive, 1)
		if err := remember(ctx, w, step.BeforeSELinux, place); err != nil {
			return err
		}
		if place == selinuxLive {
			if _, err := w.Run(ctx, host.Command{Argv: []string{"setenforce", "0"}}); err != nil {
				return fmt.Errorf("cannot make SELinux permissive: %w", err)
			}
			continue
		}
		config, err := w.ReadFile(ctx, selinuxConfig)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", selinuxConfig, err)
		}
		lines := strings.Split(string(config), "\n")
		for i, l := range lines {
			if l == "SELINUX=enforcing" {
				lines[i] = "SELINUX=permissive"
			}
		}
		if err := w.WriteFile(ctx, selinuxConfig, host.File{Content: []byte(strings.Join(lines, "\n"))}); err != nil {
			return fmt.Errorf("cannot write %s: %w", selinuxConfig, err)
		}
	}
	return nil
}

// TimeServers makes the host's time service use the given servers, and no others of ours.
type TimeServers struct {
	Servers []string `json:"servers"`
}

// ID is stored in plans.
func (TimeServers) ID() step.ID { return "system.time-servers/v1" }

// service is one time service that we can configure.
type service struct{ unit, path, format string }

func timeServices() []service {
	return []service{
		{"chronyd.service", "/etc/chrony.d/slipway.conf", "chrony"},
		{"chrony.service", "/etc/chrony/sources.d/slipway.sources", "chrony"},
		{"systemd-timesyncd.service", "/etc/systemd/timesyncd.conf.d/slipway.conf", "timesyncd"},
	}
}

func (t TimeServers) find(ctx context.Context, r step.Reader) (service, error) {
	var names []string
	for _, s := range timeServices() {
		names = append(names, s.unit)
	}
	units, err := host.QueryUnits(ctx, r, names...)
	if err != nil {
		return service{}, err
	}
	for i, u := range units {
		// Debian's chrony also answers to Red Hat's name, but reads other files.
		if s := timeServices()[i]; u.LoadState == "loaded" && u.ID == s.unit {
			return s, nil
		}
	}
	return service{}, fault.NewTerminal("NoTimeService", "install chrony or systemd-timesyncd on the host, or disable the NTP servers in Setting ntp",
		fmt.Errorf("cannot set time servers on %s: it has neither chrony nor systemd-timesyncd", r.Target.Name))
}

// loadedPath holds what the service has read: it is written after the restart, so a cut before that is seen.
const loadedPath = step.StateDir + "/time-servers"

func (t TimeServers) file(s service) host.File {
	if s.format == "timesyncd" {
		return host.File{Content: []byte("[Time]\nNTP=" + strings.Join(t.Servers, " ") + "\n")}
	}
	var b strings.Builder
	for _, server := range t.Servers {
		b.WriteString("server " + server + " iburst\n")
	}
	return host.File{Content: []byte(b.String())}
}

// Check compares the configuration, also with what the service has read, and asks whether the service starts at boot.
func (t TimeServers) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	s, err := t.find(ctx, r)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	if err := drift.WantFile(ctx, r, s.path, t.file(s)); err != nil {
		return nil, err
	}
	if err := drift.WantFile(ctx, r, loadedPath, t.file(s)); err != nil {
		return nil, err
	}
	units, err := host.QueryUnits(ctx, r, s.unit)
	if err != nil {
		return nil, err
	}
	drift.Want(s.unit+" at boot", units[0].UnitFileState, "enabled")
	return drift, nil
}

// Apply writes the configuration and restarts the service.
func (t TimeServers) Apply(ctx context.Context, w step.Writer) error {
	s, err := t.find(ctx, w.Reading)
	if err != nil {
		return err
	}
	if err := rememberUnits(ctx, w, s.unit); err != nil {
		return err
	}
	if err := w.WriteFile(ctx, s.path, t.file(s)); err != nil {
		return fmt.Errorf("cannot write %s: %w", s.path, err)
	}
	for _, argv := range [][]string{{"systemctl", "enable", s.unit}, {"systemctl", "restart", s.unit}} {
		if _, err := w.Run(ctx, host.Command{Argv: argv}); err != nil {
			return fmt.Errorf("cannot restart %s: %w", s.unit, err)
		}
	}
	if err := w.WriteFile(ctx, loadedPath, t.file(s)); err != nil {
		return fmt.Errorf("cannot write %s: %w", loadedPath, err)
	}
	return nil
}
