package grant

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
)

func host(change func(*v1alpha1.Host)) *v1alpha1.Host {
	h := &v1alpha1.Host{
		ObjectMeta: metav1.ObjectMeta{Name: "w1"},
		Spec:       v1alpha1.HostSpec{Address: "bastion.secret", Credential: "secret-login", HostKey: "ssh-ed25519 secret", Region: "north"},
		Status: v1alpha1.HostStatus{
			InternalAddress: "10.9.0.21", OfferedKey: &v1alpha1.OfferedKey{Key: "secret", Fingerprint: "secret"},
			Conditions: []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionTrue, Message: "secret"}},
			Facts: &v1alpha1.HostFacts{Hostname: "secret", MachineID: "secret", OS: v1alpha1.HostOS{ID: "debian", Version: "12"}, Architecture: "amd64",
				CPUs: 4, MemoryBytes: 8 << 30, Memory: "7.8Gi"},
		},
	}
	change(h)
	return h
}

func TestHost(t *testing.T) {
	cases := map[string]struct {
		reason  string
		host    *v1alpha1.Host
		want    string
		summary string
		cluster string
	}{
		"none":      {reason: "a grant may name a host that is not there yet", want: ReasonNotFound},
		"free":      {reason: "what one asks first", host: host(func(*v1alpha1.Host) {}), want: ReasonUsable, summary: "4 CPUs, 7.8Gi, debian 12, amd64, free"},
		"own":       {reason: "a cluster of the project is named", host: host(func(h *v1alpha1.Host) { h.Status.Holder = &v1alpha1.HostHolder{Cluster: "dev/demo"} }), want: ReasonUsable, summary: "4 CPUs, 7.8Gi, debian 12, amd64, in use by demo", cluster: "demo"},
		"elsewhere": {reason: "one of another project is not", host: host(func(h *v1alpha1.Host) { h.Status.Holder = &v1alpha1.HostHolder{Cluster: "secret/secret"} }), want: ReasonUsable, summary: "4 CPUs, 7.8Gi, debian 12, amd64, in use"},
		"lost": {reason: "that it fails is said, why is not", host: host(func(h *v1alpha1.Host) { h.Status.Conditions[0].Status = metav1.ConditionFalse }),
			want: ReasonNotReachable, summary: "4 CPUs, 7.8Gi, debian 12, amd64, not reachable, free"},
		"new": {reason: "a host that was not seen has no facts", host: host(func(h *v1alpha1.Host) { h.Status = v1alpha1.HostStatus{} }), want: ReasonNotReachable, summary: "not reachable, free"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Host(tc.host, "dev")
			if got.Reason != tc.want || got.Summary != tc.summary || got.Message == "" {
				t.Errorf("%s: %+v", tc.reason, got)
			}
			if (got.Host == nil) != (tc.host == nil) {
				t.Fatalf("%s: host %v", tc.reason, got.Host)
			}
			if got.Host == nil {
				return
			}
			if got.Host.Cluster != tc.cluster || got.Host.Region != "north" {
				t.Errorf("%s: host %+v", tc.reason, got.Host)
			}
			if said := cmp.Diff(View{Host: &v1alpha1.GrantedHost{}}, got); strings.Contains(said, "secret") {
				t.Errorf("%s: it tells what is no business of the project:\n%s", tc.reason, said)
			}
		})
	}
}

func TestBundle(t *testing.T) {
	bundle := func(enabled bool, verified metav1.ConditionStatus) *v1alpha1.Bundle {
		return &v1alpha1.Bundle{Spec: v1alpha1.BundleSpec{Enabled: &enabled}, Status: v1alpha1.BundleStatus{KubernetesVersion: "v1.36.3", Architectures: []string{"amd64", "arm64"},
			Conditions: []metav1.Condition{{Type: v1alpha1.BundleVerified, Status: verified, Message: "secret"}}}}
	}
	cases := map[string]struct {
		reason        string
		bundle        *v1alpha1.Bundle
		want, summary string
	}{
		"none":     {"a grant may come before the bundle", nil, ReasonNotFound, ""},
		"usable":   {"what one asks first", bundle(true, metav1.ConditionTrue), ReasonUsable, "Kubernetes v1.36.3, amd64, arm64"},
		"disabled": {"an administrator has turned it off", bundle(false, metav1.ConditionTrue), ReasonNotEnabled, "Kubernetes v1.36.3, amd64, arm64, disabled"},
		"damaged":  {"it is not what it was", bundle(true, metav1.ConditionFalse), ReasonNotVerified, "Kubernetes v1.36.3, amd64, arm64, not verified"},
		"new":      {"nothing is known yet", &v1alpha1.Bundle{}, ReasonNotVerified, "not verified"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Bundle(tc.bundle)
			if got.Reason != tc.want || got.Summary != tc.summary || strings.Contains(got.Message, "secret") {
				t.Errorf("%s: %+v", tc.reason, got)
			}
		})
	}
}

func TestEverything(t *testing.T) {
	for count, want := range map[int]string{0: "0 hosts", 1: "1 host", 10_000: "10000 hosts"} {
		if got := Everything(v1alpha1.GrantHost, count); got.Summary != want || !got.Usable() {
			t.Errorf("%d: %+v", count, got)
		}
	}
}
