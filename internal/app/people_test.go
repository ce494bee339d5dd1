package app

import (
	"net"
	"testing"
)

func TestReachable(t *testing.T) {
	cases := map[string]struct {
		reason string
		listen net.TCPAddr
		names  []string
		want   string
	}{
		"Name":    {reason: "the administrator says how people reach it", listen: net.TCPAddr{IP: net.IPv4zero, Port: 8443}, names: []string{"slipway.example", "10.0.0.1"}, want: "slipway.example:8443"},
		"Address": {reason: "it listens on one address only", listen: net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 443}, want: "192.0.2.7:443"},
		"IPv6":    {reason: "an IPv6 address is put in brackets", listen: net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 443}, want: "[2001:db8::7]:443"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got, err := reachable(&tc.listen, tc.names); err != nil || got != tc.want {
				t.Errorf("%s: %s, %v", tc.reason, got, err)
			}
		})
	}
	everywhere, err := reachable(&net.TCPAddr{IP: net.IPv6zero, Port: 8443}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host, _, err := net.SplitHostPort(everywhere); err != nil || net.ParseIP(host).IsUnspecified() {
		t.Errorf("nobody can open https://%s: %v", everywhere, err)
	}
}
