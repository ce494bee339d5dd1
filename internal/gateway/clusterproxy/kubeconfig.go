package clusterproxy

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/gateway"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/step/kubeadm"
)

const (
	// kubeconfigHours is how long a kubeconfig is good when nobody says how long.
	kubeconfigHours = 24
	// maxHours is the longest that any setting can allow.
	maxHours = 366 * 24
	// breakGlassHours and maxBreakGlassHours are the same for break-glass, which cannot be taken back.
	breakGlassHours, maxBreakGlassHours = 1, 24
	minReason, maxReason                = 10, 200
	// maxWish is the largest body of a request for a kubeconfig.
	maxWish = 16 << 10
)

// kubeconfig answers with a kubeconfig that goes through this server with a token of the person's own, which is good
// for the one cluster and ends with the person's rights.
func (h *handler) kubeconfig(w http.ResponseWriter, r *http.Request) error {
	var wish struct {
		Hours int `json:"hours"`
	}
	if err := read(r, &wish); err != nil {
		return err
	}
	if err := between("hours", wish.Hours, maxHours); err != nil {
		return err
	}
	c, err := h.cluster(r)
	if err != nil {
		return err
	}
	server, err := serverURL(r, c.Namespace, c.Name)
	if err != nil {
		return err
	}
	who, _ := gateway.UserOf(r.Context())
	token, err := h.Tokens.Mint(r.Context(), who, auth.TokenRequest{
		Name: "kubeconfig of " + c.Name, Scope: auth.Scope{Cluster: c.Namespace + "/" + c.Name}, From: gateway.ClientIP(r),
		Life: time.Duration(cmp.Or(wish.Hours, kubeconfigHours)) * time.Hour,
		// Who asks for nothing gets what there is.
		Narrow: wish.Hours == 0,
	})
	if err != nil {
		return err
	}
	gateway.Note(r.Context(), "token", token.ID)
	gateway.Note(r.Context(), "until", stamp(token.Expires))
	first := fmt.Sprintf("kubeconfig of cluster %s/%s, through Slipway, with your own rights; it ends %s, or when your rights end",
		c.Namespace, c.Name, stamp(token.Expires))
	return write(w, first, c.Name, who.GetName(),
		&clientcmdapi.Cluster{Server: server, CertificateAuthorityData: h.CA()}, &clientcmdapi.AuthInfo{Token: token.Secret})
}

// breakGlass answers with a kubeconfig that goes straight to the cluster with every right there. Nobody can take it
// back before its end, so it wants a reason.
func (h *handler) breakGlass(w http.ResponseWriter, r *http.Request) error {
	var wish struct {
		Hours  int    `json:"hours"`
		Reason string `json:"reason"`
	}
	if err := read(r, &wish); err != nil {
		return err
	}
	reason := strings.TrimSpace(wish.Reason)
	if n := utf8.RuneCountInString(reason); n < minReason || n > maxReason || !utf8.ValidString(reason) || strings.ContainsFunc(reason, unicode.IsControl) {
		return apierrors.NewBadRequest(fmt.Sprintf("break-glass needs a reason of %d to %d characters, on one line", minReason, maxReason))
	}
	gateway.Note(r.Context(), "reason", reason)
	if err := between("hours", wish.Hours, maxBreakGlassHours); err != nil {
		return err
	}
	c, err := h.cluster(r)
	if err != nil {
		return err
	}
	keys, err := h.keys(r.Context(), c)
	if err != nil {
		return err
	}
	ca, err := pki.ParseCA(keys.Data[kubeadm.CACert], keys.Data[kubeadm.CAKey])
	if err != nil {
		return err
	}
	who, _ := gateway.UserOf(r.Context())
	certificate, key, err := ca.Issue(pki.Template{
		CommonName: prefix + who.GetName(), Organization: []string{"system:masters"},
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, ValidFor: time.Duration(cmp.Or(wish.Hours, breakGlassHours)) * time.Hour,
	})
	if err != nil {
		return err
	}
	leaf, err := pki.ParseCertificate(certificate)
	if err != nil {
		return err
	}
	gateway.Note(r.Context(), "until", stamp(leaf.NotAfter))
	first := fmt.Sprintf("BREAK-GLASS kubeconfig of cluster %s/%s, past Slipway, with every right; it ends %s and cannot be taken back before",
		c.Namespace, c.Name, stamp(leaf.NotAfter))
	return write(w, first, c.Name+"-break-glass", who.GetName()+"-break-glass",
		&clientcmdapi.Cluster{Server: c.Status.Endpoint, CertificateAuthorityData: keys.Data[kubeadm.CACert]},
		&clientcmdapi.AuthInfo{ClientCertificateData: certificate, ClientKeyData: key})
}

// read decodes a body that may be empty.
func read(r *http.Request, wish any) error {
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxWish))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(wish); err != nil && !errors.Is(err, io.EOF) {
		return apierrors.NewBadRequest("cannot read the body: it must be a JSON object with hours, and for break-glass reason")
	}
	return nil
}

func between(field string, have, longest int) error {
	if have < 0 || have > longest {
		return apierrors.NewBadRequest(fmt.Sprintf("%s must be from 1 to %d", field, longest))
	}
	return nil
}

// serverURL gives the address of the cluster behind this server, by the name that the client itself has used.
func serverURL(r *http.Request, project, name string) (string, error) {
	u, err := url.Parse("https://" + r.Host)
	if err != nil || r.Host == "" || u.Host != r.Host {
		return "", apierrors.NewBadRequest("the request does not say by which name it reached the server")
	}
	return u.JoinPath("slipway/v1/projects", project, "clusters", name, "proxy").String(), nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// write answers with a kubeconfig whose first line tells people what it is.
func write(w http.ResponseWriter, first, name, userName string, c *clientcmdapi.Cluster, a *clientcmdapi.AuthInfo) error {
	content, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: c},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{userName: a},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: userName}},
		CurrentContext: name,
	})
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/yaml")
	_, err = fmt.Fprintf(w, "# %s\n%s", first, content)
	return err
}
