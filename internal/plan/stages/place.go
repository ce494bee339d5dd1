package stages

import (
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/api/v1alpha1"
)

// Place is a directory of hosts where backups are kept.
type Place struct {
	// Location names the BackupLocation.
	Location string
	v1alpha1.HostDirectoryLocation
	// Away says, by host, why its directory cannot be reached.
	Away map[string]string
}

// LostWith says of backups that are on one host alone what that means, to be put behind another sentence; "" of others.
func (p *Place) LostWith() string {
	if p == nil || !p.OnOneHost() {
		return ""
	}
	return ", on host " + strings.Join(p.Hosts, ", ") + " alone: lost with it"
}

// PlaceProblem says why a backup can neither be kept in nor read from a directory of hosts: reason, what to do, and text; empty
// when it can be, and for every other location. Hosts that are lost for good have nothing.
func (in Input) PlaceProblem() (reason, fix, text string) {
	p := in.Place
	if p == nil {
		return "", "", ""
	}
	lost := func(name string) bool { return slices.Contains(in.Parameters.Lost, name) }
	for _, name := range p.Hosts {
		if dir := in.clears(name, p.Path); dir != "" && !p.Mounted {
			return "PlaceCleared", "choose a location with another directory",
				fmt.Sprintf("backup location %s is directory %s of host %s, and %s there is cleared with the cluster", p.Location, p.Path, name, dir)
		}
	}
	if i := slices.IndexFunc(p.Hosts, func(name string) bool { return !lost(name) && p.Away[name] == "" }); i >= 0 {
		return "", "", ""
	}
	if !slices.ContainsFunc(p.Hosts, func(name string) bool { return !lost(name) }) {
		return "BackupLost", "choose a backup that is kept elsewhere",
			fmt.Sprintf("backup location %s is a directory of %s, said to be lost for good, and what is in it is lost as well", p.Location, strings.Join(p.Hosts, ", "))
	}
	var away []string
	for _, name := range p.Hosts {
		if !lost(name) {
			away = append(away, name+": "+p.Away[name])
		}
	}
	return "NotReachable", "bring the host back, or choose a backup or a location elsewhere",
		fmt.Sprintf("backup location %s is a directory of hosts, none of which can be reached: %s", p.Location, strings.Join(away, "; "))
}

// clears gives the directory of a host of the cluster that a restore or a deletion clears and that holds a path, or lies in it.
func (in Input) clears(name, path string) string {
	if !slices.Contains(in.Spec.AllHosts(), name) {
		return ""
	}
	for _, dir := range []string{in.Spec.Components.Etcd.DataDir, in.Spec.Runtime.DataDir} {
		if dir != "" && (strings.HasPrefix(path+"/", dir+"/") || strings.HasPrefix(dir+"/", path+"/")) {
			return dir
		}
	}
	return ""
}
