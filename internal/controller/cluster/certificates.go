package cluster

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/host"
)

const (
	// lookEvery is how often the certificates that a cluster serves are looked at, beside each time its API server comes back.
	lookEvery = time.Hour
	// lookFor bounds one look at all of them.
	lookFor = 5 * time.Minute
	// maxCertificates is how many a status holds.
	maxCertificates = 32
	day             = 24 * time.Hour
)

// watchCertificates looks at the certificates of a cluster every hour and whenever its API server comes back.
func (w *watchers) watchCertificates(ctx context.Context, key types.NamespacedName, back <-chan []string) {
	timer := time.NewTicker(lookEvery)
	defer timer.Stop()
	var kubelets []string
	for {
		select {
		case <-ctx.Done():
			return
		case kubelets = <-back:
		case <-timer.C:
		}
		bounded, cancel := context.WithTimeout(ctx, lookFor)
		found := served(bounded, w.access.Connection(key.Namespace, key.Name), kubelets)
		cancel()
		if len(found) > 0 {
			w.set(ctx, key, func(r *report) { r.certificates = found })
		}
	}
}

// server is where certificates are seen: a Connection, in tests something else.
type server interface {
	ControlPlanes(ctx context.Context) ([]string, int32, error)
	Served(ctx context.Context, host, address, serverName string) (time.Time, error)
}

var _ server = (*cluster.Connection)(nil)

// served gives when the certificates end that API servers and etcd members serve, and of the kubelets the one that ends
// first. What does not answer is left out: the status keeps what was seen of it before.
func served(ctx context.Context, s server, kubelets []string) []v1alpha1.ClusterCertificate {
	hosts, port, err := s.ControlPlanes(ctx)
	if err != nil {
		return nil
	}
	var found []v1alpha1.ClusterCertificate
	for _, name := range hosts {
		for _, c := range []struct {
			what string
			port int32
		}{{"apiserver", port}, {"etcd", 2379}} {
			ends, err := s.Served(ctx, name, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(c.port))), cluster.ServerName)
			if err == nil {
				found = append(found, v1alpha1.ClusterCertificate{Name: name + "/" + c.what, ExpiresAt: metav1.NewTime(ends)})
			}
		}
	}
	var worst *v1alpha1.ClusterCertificate
	for _, node := range kubelets {
		name, address, _ := strings.Cut(node, " ")
		for _, from := range hosts {
			ends, err := s.Served(ctx, from, net.JoinHostPort(address, "10250"), name)
			if err != nil {
				continue
			}
			if worst == nil || ends.Before(worst.ExpiresAt.Time) {
				worst = &v1alpha1.ClusterCertificate{Name: host.Clean(name, maxReason) + "/kubelet", ExpiresAt: metav1.NewTime(ends)}
			}
			break
		}
	}
	if worst != nil {
		found = append(found, *worst)
	}
	return found
}

// kubeletAddresses gives "NAME ADDRESS" of each node.
func kubeletAddresses(nodes map[string]*corev1.Node) []string {
	var all []string
	for name, n := range nodes {
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP && net.ParseIP(a.Address) != nil {
				all = append(all, name+" "+a.Address)
				break
			}
		}
	}
	slices.Sort(all)
	return all
}

// noteCertificates puts what was seen into the status, and says which ends first.
func (r *Reconciler) noteCertificates(c *v1alpha1.Cluster, now time.Time) {
	seen := r.nodes.report(types.NamespacedName{Namespace: c.Namespace, Name: c.Name}).certificates
	if len(seen) > 0 {
		// The authorities are those without a host in front.
		kept := slices.DeleteFunc(slices.Clone(c.Status.Certificates), func(have v1alpha1.ClusterCertificate) bool {
			host, what, leaf := strings.Cut(have.Name, "/")
			return leaf && (what == "kubelet" || !slices.Contains(c.Status.Applied.ControlPlane.Hosts, host) ||
				slices.ContainsFunc(seen, func(s v1alpha1.ClusterCertificate) bool { return s.Name == have.Name }))
		})
		all := append(kept, seen...)
		c.Status.Certificates = all[:min(len(all), maxCertificates)]
	}
	if len(c.Status.Certificates) > 0 {
		meta.SetStatusCondition(&c.Status.Conditions, certificatesValid(c, now))
	}
}

// certificatesValid warns 90, 30 and 7 days before the first certificate ends.
func certificatesValid(c *v1alpha1.Cluster, now time.Time) metav1.Condition {
	first := slices.MinFunc(c.Status.Certificates, func(a, b v1alpha1.ClusterCertificate) int { return a.ExpiresAt.Compare(b.ExpiresAt.Time) })
	condition := metav1.Condition{Type: v1alpha1.ClusterCertificatesValid, Status: metav1.ConditionTrue, ObservedGeneration: c.Generation, Reason: "Valid"}
	ends := first.ExpiresAt.UTC().Format(time.RFC3339)
	const fix = "; renew all: slipway cluster renew-certs "
	left := first.ExpiresAt.Sub(now)
	switch {
	case left <= 0:
		condition.Status, condition.Reason = metav1.ConditionFalse, "Ended"
		condition.Message = fmt.Sprintf("%s ended %s%s%s", first.Name, ends, fix, c.Name)
		return condition
	case left <= 7*day:
		condition.Reason = "EndWithin7Days"
	case left <= 30*day:
		condition.Reason = "EndWithin30Days"
	case left <= 90*day:
		condition.Reason = "EndWithin90Days"
	default:
		condition.Message = fmt.Sprintf("the first to end is %s, %s", first.Name, ends)
		return condition
	}
	condition.Message = fmt.Sprintf("%s ends %s%s%s", first.Name, ends, fix, c.Name)
	return condition
}
