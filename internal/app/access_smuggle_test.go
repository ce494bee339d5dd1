package app

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
)

// whoAmI asks the API server for whom it takes the request.
const whoAmI = `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`

const whoAmIPath = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

// smuggling tries, on the real port before the real API, to be somebody else. The API server would believe each of these
// headers from the gateway.
func (p *accessPort) smuggling(t *testing.T) {
	token := "Authorization: Bearer " + p.kept[asReader] + "\r\n"
	const masters = "Impersonate-User: admin\r\nImpersonate-Group: system:masters\r\n"
	for name, test := range map[string]struct {
		reason, headers string
		status          int
	}{
		"plain":         {"the way it should be", token, 201},
		"impersonate":   {"nobody becomes someone else", token + masters, 201},
		"group alone":   {"nor more than they are", token + "Impersonate-Group: system:masters\r\n", 201},
		"uid, extra":    {"nor with another's marks", token + "Impersonate-Uid: 0\r\nImpersonate-Extra-Slipway.dev%2Fvia: admin-token\r\n", 201},
		"odd case":      {"spelling does not help", token + "iMPERSONATE-uSER: admin\r\nIMPERSONATE-GROUP: system:masters\r\nimpersonate_group: system:masters\r\n", 201},
		"twice":         {"the second is as good as the first", token + masters + masters, 201},
		"front proxy":   {"nobody is a front proxy", token + "X-Remote-User: admin\r\nX-Remote-Group: system:masters\r\nx_remote_group: system:masters\r\n", 201},
		"hop by hop":    {"Connection takes nothing away that the gateway says", token + "Connection: Impersonate-User, Impersonate-Group, Authorization\r\n", 201},
		"hop by hop in": {"and carries nothing past it", token + "Connection: close, Impersonate-Group\r\n" + masters, 201},
		"trailer":       {"what comes after the body is no header", token + "Trailer: Impersonate-Group\r\n", 201},
		"two tokens":    {"nobody is two persons", token + "Authorization: Bearer " + p.kept[asSystem] + "\r\n", 401},
		"no token":      {"a claim is no credential", masters + "X-Remote-User: admin\r\n", 401},
		"basic":         {"nor is another scheme", "Authorization: Basic YWRtaW46YWRtaW4=\r\n" + masters, 401},
	} {
		t.Run(name, func(t *testing.T) {
			head := "POST " + whoAmIPath + " HTTP/1.1\r\nHost: slipway\r\nContent-Type: application/json\r\n"
			code, body := p.rawRequest(t, head+test.headers+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(whoAmI), whoAmI))
			if code != test.status {
				t.Fatalf("%s: status %d, want %d: %s", test.reason, code, test.status, body)
			}
			if code == http.StatusCreated {
				isReader(t, test.reason, body)
			}
		})
	}
	t.Run("HTTP2", func(t *testing.T) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+whoAmIPath, strings.NewReader(whoAmI))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"Authorization": "Bearer " + p.kept[asReader], "Content-Type": "application/json", "Impersonate-User": "admin", "Impersonate-Group": "system:masters",
			"Impersonate-Extra-Slipway.dev%2fvia": "admin-token", "X-Remote-User": "admin", "X-Remote-Group": "system:masters", "Impersonate_Group": "system:masters",
		} {
			request.Header.Set(name, value)
		}
		response, err := p.clients[asReader].Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.ProtoMajor != 2 || response.StatusCode != http.StatusCreated {
			t.Fatalf("%s %s %v", response.Proto, response.Status, err)
		}
		isReader(t, "HTTP/2 has the same headers", string(body))
	})
	p.smuggledUpgrades(t, token, masters)
}

// smuggledUpgrades asks for a watch over a WebSocket, which takes another way through the gateway.
func (p *accessPort) smuggledUpgrades(t *testing.T, token, masters string) {
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://slipway\r\n"
	const ours, secrets = "/apis/slipway.dev/v1alpha1/namespaces/dev/clusters?watch=true", "/api/v1/namespaces/slipway-system/secrets?watch=true"
	for name, test := range map[string]struct {
		reason, path, headers string
		status                int
	}{
		"WebSocket":                {"a watch of one's own project", ours, token + upgrade, 101},
		"WebSocket, not allowed":   {"RBAC is asked here too", secrets, token + upgrade, 403},
		"WebSocket, impersonate":   {"nobody becomes someone else", secrets, token + upgrade + masters, 403},
		"WebSocket, two upgrades":  {"however the upgrade is asked for", secrets, token + strings.Replace(upgrade, "Connection: Upgrade", "Connection: Upgrade, Impersonate-User", 1) + masters, 403},
		"WebSocket, no token":      {"a claim is no credential", secrets, upgrade + masters, 401},
		"WebSocket, gateway token": {"a token in the protocol is none", secrets, upgrade + "Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.YWRtaW4, v4.channel.k8s.io\r\n", 401},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := p.rawRequest(t, "GET "+test.path+" HTTP/1.1\r\nHost: slipway\r\n"+test.headers+"\r\n")
			if code != test.status {
				t.Errorf("%s: status %d, want %d: %s", test.reason, code, test.status, body)
			}
		})
	}
}

// isReader holds that the API server took a request for what it was.
func isReader(t *testing.T, reason, body string) {
	t.Helper()
	var review authenticationv1.SelfSubjectReview
	if err := json.Unmarshal([]byte(body), &review); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	who := review.Status.UserInfo
	if diff := cmp.Diff([]string{"system:authenticated"}, who.Groups); diff != "" || who.Username != rita {
		t.Errorf("%s: the API server took %s for %s in groups (-want +got):\n%s", reason, rita, who.Username, diff)
	}
	if via := who.Extra["slipway.dev/via"]; len(via) != 1 || !strings.HasPrefix(via[0], "token:") {
		t.Errorf("%s: the API server thinks that %s came by %v", reason, rita, via)
	}
}

// rawRequest sends bytes: a client of Go would mend some of them.
func (p *accessPort) rawRequest(t *testing.T, request string) (int, string) {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(p.url, "https://"), &tls.Config{RootCAs: p.roots, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusSwitchingProtocols {
		return response.StatusCode, ""
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}
