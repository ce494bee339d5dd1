// Package system owns the steps that prepare a host's operating system.
// It must never change what the cluster's spec does not ask for.
package system

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// Where the settings are kept on a host.
const (
	modulesPath = "/etc/modules-load.d/slipway.conf"
	sysctlPath  = "/etc/sysctl.d/90-slipway.conf"
)

// Kernel loads modules and sets kernel parameters, now and after every reboot.
type Kernel struct {
	Modules []string          `json:"modules"`
	Sysctls map[string]string `json:"sysctls"`
	// Remember lists further parameters that Kubernetes changes while it runs; their present value is kept too.
	Remember []string `json:"remember,omitempty"`
}

// ID is stored in plans.
func (Kernel) ID() step.ID { return "system.kernel/v1" }

func (k Kernel) modulesFile() host.File {
	return host.File{Content: []byte(strings.Join(k.Modules, "\n") + "\n")}
}

func (k Kernel) sysctlFile() host.File {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(k.Sysctls)) {
		fmt.Fprintf(&b, "%s = %s\n", key, k.Sysctls[key])
	}
	return host.File{Content: []byte(b.String())}
}

// Check compares the files and the live values.
func (k Kernel) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	if err := drift.WantFile(ctx, r, modulesPath, k.modulesFile()); err != nil {
		return nil, err
	}
	if err := drift.WantFile(ctx, r, sysctlPath, k.sysctlFile()); err != nil {
		return nil, err
	}
	keys := slices.Sorted(maps.Keys(k.Sysctls))
	live, err := host.QuerySysctls(ctx, r, keys...)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		drift.Want(key, live[key], k.Sysctls[key])
	}
	return drift, nil
}

// Apply remembers the present values once, then writes and loads the wanted ones.
func (k Kernel) Apply(ctx context.Context, w step.Writer) error {
	for _, m := range k.Modules {
		// A kernel with the feature built in, or a container, has no module to load: the live values decide.
		if _, err := w.Run(ctx, host.Command{Argv: []string{"modprobe", "--quiet", "--", m}}); err != nil && !isCommandError(err) {
			return fmt.Errorf("cannot load module %s: %w", m, err)
		}
	}
	if err := k.remember(ctx, w); err != nil {
		return err
	}
	if err := w.WriteFile(ctx, modulesPath, k.modulesFile()); err != nil {
		return fmt.Errorf("cannot write %s: %w", modulesPath, err)
	}
	if err := w.WriteFile(ctx, sysctlPath, k.sysctlFile()); err != nil {
		return fmt.Errorf("cannot write %s: %w", sysctlPath, err)
	}
	if _, err := w.Run(ctx, host.Command{Argv: []string{"sysctl", "--quiet", "--load=" + sysctlPath}}); err != nil {
		return fmt.Errorf("cannot set kernel parameters: %w", err)
	}
	return nil
}

func (k Kernel) remember(ctx context.Context, w step.Writer) error {
	info, err := w.Stat(ctx, step.BeforeSysctls)
	if err != nil {
		return fmt.Errorf("cannot look for %s: %w", step.BeforeSysctls, err)
	}
	if info[0].Exists {
		return nil
	}
	live, err := host.QuerySysctls(ctx, w, append(slices.Sorted(maps.Keys(k.Sysctls)), k.Remember...)...)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(live)) {
		fmt.Fprintf(&b, "%s = %s\n", key, live[key])
	}
	if err := w.WriteFile(ctx, step.BeforeSysctls, host.File{Content: []byte(b.String())}); err != nil {
		return fmt.Errorf("cannot remember kernel parameters: %w", err)
	}
	return nil
}
