// Package grant owns what a project may know of what is lent to it: hosts, bundles, backup locations, cluster templates.
// It must never tell more: not how a host or a location is reached, not why a login fails, and not who else uses it.
package grant

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"

	"slipway.dev/slipway/api/v1alpha1"
)

// The reasons of the condition Ready of a Grant.
const (
	ReasonUsable       = "Usable"
	ReasonNotFound     = "NotFound"
	ReasonNotReachable = "NotReachable"
	ReasonNotEnabled   = "NotEnabled"
	ReasonNotVerified  = "NotVerified"
	ReasonNotAvailable = "NotAvailable"
)

// View is what a project sees of one thing that is lent to it.
type View struct {
	// Reason is ReasonUsable, or why it cannot be used; Message says so to people, with what to do.
	Reason, Message string
	// Summary is one line for a list.
	Summary string
	// Host is set for a host that exists.
	Host *v1alpha1.GrantedHost
}

// Usable says whether a new cluster could use it, as far as the platform decides that.
func (v View) Usable() bool { return v.Reason == ReasonUsable }

// Host gives what a project sees of a host; nil is one that does not exist.
func Host(h *v1alpha1.Host, project string) View {
	if h == nil {
		return View{Reason: ReasonNotFound, Message: "there is no such host; ask a system administrator to add it or to take the grant back"}
	}
	g := &v1alpha1.GrantedHost{
		Region: h.Spec.Region, InternalAddress: h.Status.InternalAddress,
		Reachable: meta.IsStatusConditionTrue(h.Status.Conditions, v1alpha1.HostReachable),
	}
	var parts []string
	if f := h.Status.Facts; f != nil {
		g.OS = strings.TrimSpace(f.OS.ID + " " + f.OS.Version)
		g.Architecture, g.CPUs, g.MemoryBytes = f.Architecture, f.CPUs, f.MemoryBytes
		parts = append(parts, fmt.Sprintf("%d CPUs", f.CPUs), f.Memory, g.OS, f.Architecture)
	}
	use := "free"
	if h.Status.Holder != nil {
		g.InUse, use = true, "in use"
		if holder, name, _ := strings.Cut(h.Status.Holder.Cluster, "/"); holder == project {
			g.Cluster, use = name, "in use by "+name
		}
	}
	v := View{Reason: ReasonUsable, Message: "Slipway can log in to it", Host: g}
	if !g.Reachable {
		v.Reason, v.Message = ReasonNotReachable, "Slipway cannot log in to it now; a system administrator can see why"
		parts = append(parts, "not reachable")
	}
	v.Summary = join(append(parts, use))
	return v
}

// Bundle gives what a project sees of a bundle; nil is one that does not exist.
func Bundle(b *v1alpha1.Bundle) View {
	if b == nil {
		return View{Reason: ReasonNotFound, Message: "there is no such bundle; ask a system administrator to build or import it"}
	}
	v := View{Reason: ReasonUsable, Message: "new clusters can use it"}
	parts := append([]string{"Kubernetes " + b.Status.KubernetesVersion}, b.Status.Architectures...)
	if b.Status.KubernetesVersion == "" {
		parts = parts[1:]
	}
	switch {
	case b.Spec.Enabled != nil && !*b.Spec.Enabled:
		v.Reason, v.Message = ReasonNotEnabled, "it is disabled for new clusters; a system administrator can enable it"
		parts = append(parts, "disabled")
	case !meta.IsStatusConditionTrue(b.Status.Conditions, v1alpha1.BundleVerified):
		v.Reason, v.Message = ReasonNotVerified, "it is not verified; a system administrator can see why"
		parts = append(parts, "not verified")
	}
	v.Summary = join(parts)
	return v
}

// BackupLocation gives what a project sees of a backup location; nil is one that does not exist.
func BackupLocation(l *v1alpha1.BackupLocation) View {
	if l == nil {
		return View{Reason: ReasonNotFound, Message: "there is no such backup location; ask a system administrator to add it or to take the grant back"}
	}
	parts := []string{"directory of the server"}
	if l.Spec.S3 != nil {
		parts[0] = "S3 bucket"
	}
	v := View{Reason: ReasonUsable, Message: "backups can be kept in it"}
	if !meta.IsStatusConditionTrue(l.Status.Conditions, v1alpha1.BackupLocationAvailable) {
		v.Reason, v.Message = ReasonNotAvailable, "it cannot be used now; a system administrator can see why"
		parts = append(parts, "not available")
	}
	v.Summary = join(parts)
	return v
}

// ClusterTemplate gives what a project sees of a cluster template; nil is one that does not exist.
func ClusterTemplate(t *v1alpha1.ClusterTemplate) View {
	if t == nil {
		return View{Reason: ReasonNotFound, Message: "there is no such cluster template; ask a system administrator to add it or to take the grant back"}
	}
	return View{Reason: ReasonUsable, Message: "new clusters can have its shape", Summary: join([]string{"Kubernetes " + t.Spec.Kubernetes.Version, t.Spec.Description})}
}

// Everything gives what a project sees of a grant of all objects of a kind.
func Everything(kind v1alpha1.GrantKind, count int) View {
	one := word(kind)
	counted := one
	if count != 1 {
		counted += "s"
	}
	return View{Reason: ReasonUsable, Message: "every " + one + " is lent, also those added later", Summary: fmt.Sprintf("%d %s", count, counted)}
}

// word says a kind as people do.
func word(kind v1alpha1.GrantKind) string {
	switch kind {
	case v1alpha1.GrantBackupLocation:
		return "backup location"
	case v1alpha1.GrantClusterTemplate:
		return "cluster template"
	default:
		return strings.ToLower(string(kind))
	}
}

func join(parts []string) string {
	var known []string
	for _, p := range parts {
		if p != "" {
			known = append(known, p)
		}
	}
	return strings.Join(known, ", ")
}
