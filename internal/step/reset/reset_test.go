package reset

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/step"
)

func TestWithoutChains(t *testing.T) {
	cases := map[string]struct {
		reason     string
		have, want string
	}{
		"nothing": {reason: "no table was ever used"},
		"only ours": {reason: "the table stays, empty: restoring it deletes the chains",
			have: `*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-DN-0c3bd1a9f9f0dc9bbd5ea - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
:FLANNEL-POSTRTG - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SEP-6E7XQMQ4RAYOWTTM - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 172.25.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
COMMIT
`,
			want: `*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
`},
		"beside others": {reason: "rules of other people stay as they are, in their order",
			have: `*filter
:INPUT DROP [12:720]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
:FLANNEL-FWD - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:MY-KUBE - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -j KUBE-FIREWALL
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FORWARD -j DOCKER-USER
-A FORWARD -g MY-KUBE
-A FLANNEL-FWD -s 172.25.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A MY-KUBE -m comment --comment "see ticket KUBE-123 please" -j DROP
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:KUBE-IPTABLES-HINT - [0:0]
COMMIT
`,
			want: `*filter
:INPUT DROP [12:720]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
:MY-KUBE - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -g MY-KUBE
-A MY-KUBE -m comment --comment "see ticket KUBE-123 please" -j DROP
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
COMMIT
`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := withoutChains(tc.have)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if again := withoutChains(got); again != got {
				t.Errorf("a second look takes more out:\n%s", again)
			}
		})
	}
}

func TestNewTables(t *testing.T) {
	const now = `table inet firewall {
	chain input {
		type filter hook input priority filter; policy drop;
	}
}
table ip kube-proxy {
}
table ip6 kube-proxy {
}
table ip nat {
}
`
	cases := map[string]struct {
		reason string
		record string
		known  bool
		want   []string
	}{
		"recorded":   {reason: "what was there before stays", record: "inet firewall\n", known: true, want: []string{"ip kube-proxy", "ip6 kube-proxy", "ip nat"}},
		"all there":  {reason: "kube-proxy's tables are never somebody else's", record: "inet firewall\nip nat\nip kube-proxy\n", known: true, want: []string{"ip kube-proxy", "ip6 kube-proxy"}},
		"none there": {reason: "the host had none at all, and a table of another name is an administrator's", record: "\n", known: true, want: []string{"ip kube-proxy", "ip6 kube-proxy", "ip nat"}},
		"no record":  {reason: "without one only kube-proxy's are known to be ours", want: []string{"ip kube-proxy", "ip6 kube-proxy"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			h := fake.New("w1", v1alpha1.HostFacts{})
			h.Do(func(s *fake.State) {
				s.NFTables = now
				if tc.known {
					if err := s.WriteFile(step.BeforeTables, []byte(tc.record), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			})
			got, err := newTables(t.Context(), h)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
