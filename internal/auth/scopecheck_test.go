package auth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TestScopeAllows holds what each scope lets through. RBAC is asked after it, and not here.
func TestScopeAllows(t *testing.T) {
	all, reads := Scope{}, Scope{ReadOnly: true}
	dev, blue := Scope{Projects: []string{"dev"}}, Scope{Cluster: "dev/blue"}
	devReads, blueReads := Scope{Projects: []string{"dev"}, ReadOnly: true}, Scope{Cluster: "dev/blue", ReadOnly: true}
	const (
		ns      = "/apis/slipway.dev/v1alpha1/namespaces/"
		wide    = "/apis/slipway.dev/v1alpha1/"
		routes  = "/slipway/v1/projects/"
		inBlue  = routes + "dev/clusters/blue/proxy"
		reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
	)
	cases := map[string]struct {
		reason string
		scope  Scope
		method string
		target string
		// upgrade asks for another protocol, as exec does.
		upgrade bool
		want    bool
	}{
		"All":             {reason: "without a scope RBAC alone decides", scope: all, method: "DELETE", target: wide + "users/bob", want: true},
		"AllOddPath":      {reason: "without a scope nothing is looked at", scope: all, method: "GET", target: "/api/../x", want: true},
		"ReadGet":         {reason: "reading", scope: reads, method: "GET", target: ns + "dev/clusters/blue", want: true},
		"ReadList":        {reason: "reading", scope: reads, method: "GET", target: wide + "clusters", want: true},
		"ReadWatch":       {reason: "reading", scope: reads, method: "GET", target: wide + "clusters?watch=true", want: true},
		"ReadCreate":      {reason: "no writing", scope: reads, method: "POST", target: ns + "dev/clusters"},
		"ReadUpdate":      {reason: "no writing", scope: reads, method: "PUT", target: ns + "dev/clusters/blue"},
		"ReadPatch":       {reason: "no writing", scope: reads, method: "PATCH", target: ns + "dev/clusters/blue"},
		"ReadDelete":      {reason: "no writing", scope: reads, method: "DELETE", target: ns + "dev/clusters/blue"},
		"ReadDryRun":      {reason: "no writing, not even as a try", scope: reads, method: "POST", target: ns + "dev/clusters?dryRun=All"},
		"ReadReview":      {reason: "people may ask what they may do", scope: reads, method: "POST", target: reviews, want: true},
		"ReadRules":       {reason: "people may ask what they may do", scope: reads, method: "POST", target: "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", want: true},
		"ReadWhoAmI":      {reason: "people may ask who they are", scope: reads, method: "POST", target: "/apis/authentication.k8s.io/v1/selfsubjectreviews", want: true},
		"ReadOthers":      {reason: "not what others may do", scope: reads, method: "POST", target: "/apis/authorization.k8s.io/v1/subjectaccessreviews"},
		"ReadToken":       {reason: "no way to another credential", scope: reads, method: "POST", target: "/api/v1/namespaces/dev/serviceaccounts/bot/token"},
		"ReadDiscovery":   {reason: "kubectl needs it", scope: reads, method: "GET", target: "/apis", want: true},
		"ReadRoute":       {reason: "a route that reads", scope: reads, method: "GET", target: routes + "dev/operations/x/log", want: true},
		"ReadRoutePost":   {reason: "a route that makes something", scope: reads, method: "POST", target: routes + "dev/clusters/blue/kubeconfig"},
		"ReadMint":        {reason: "no way to another credential", scope: reads, method: "POST", target: "/slipway/v1/me/tokens"},
		"ReadExec":        {reason: "a GET that runs commands is no reading", scope: reads, method: "GET", target: inBlue + "/api/v1/namespaces/a/pods/b/exec?command=sh", upgrade: true},
		"ReadExecPlain":   {reason: "the same without saying so", scope: reads, method: "GET", target: inBlue + "/api/v1/namespaces/a/pods/b/exec?command=sh"},
		"ReadNodeProxy":   {reason: "a way past the API to kubelet", scope: reads, method: "GET", target: inBlue + "/api/v1/nodes/n/proxy/run/a"},
		"ReadLogs":        {reason: "reading in a cluster", scope: reads, method: "GET", target: inBlue + "/api/v1/namespaces/a/pods/b/log?follow=true", want: true},
		"ReadInside":      {reason: "reading in a cluster", scope: reads, method: "GET", target: inBlue + "/api/v1/pods", want: true},
		"ReadInsideWrite": {reason: "no writing in a cluster", scope: reads, method: "DELETE", target: inBlue + "/api/v1/namespaces/a/pods/b"},
		"ReadInsideAsk":   {reason: "kubectl auth can-i works in a cluster", scope: reads, method: "POST", target: inBlue + reviews, want: true},

		"Project":          {reason: "the project's own", scope: dev, method: "POST", target: ns + "dev/clusters", want: true},
		"ProjectOther":     {reason: "another project", scope: dev, method: "GET", target: ns + "prod/clusters"},
		"ProjectPrefix":    {reason: "a project that begins the same", scope: dev, method: "GET", target: ns + "dev2/clusters"},
		"ProjectWide":      {reason: "all projects at once", scope: dev, method: "GET", target: wide + "clusters"},
		"ProjectCluster":   {reason: "what is in no project", scope: dev, method: "GET", target: wide + "hosts"},
		"ProjectUsers":     {reason: "what is in no project", scope: dev, method: "PATCH", target: wide + "users/alice"},
		"ProjectRBAC":      {reason: "what is in no project", scope: dev, method: "POST", target: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"},
		"ProjectObject":    {reason: "the Project itself", scope: dev, method: "GET", target: wide + "projects/dev", want: true},
		"ProjectWatch":     {reason: "the Project itself, watched as kubectl does", scope: dev, method: "GET", target: wide + "projects?watch=1&fieldSelector=metadata.name%3Ddev", want: true},
		"ProjectObjects":   {reason: "not all Projects", scope: dev, method: "GET", target: wide + "projects"},
		"ProjectObject2":   {reason: "another Project", scope: dev, method: "GET", target: wide + "projects/prod"},
		"ProjectDelete":    {reason: "not even its own end", scope: dev, method: "DELETE", target: wide + "projects/dev"},
		"ProjectDeleteAll": {reason: "by selector neither", scope: dev, method: "DELETE", target: wide + "projects?fieldSelector=metadata.name%3Ddev"},
		"ProjectNamespace": {reason: "its namespace can be read", scope: dev, method: "GET", target: "/api/v1/namespaces/dev", want: true},
		"ProjectNSDelete":  {reason: "and not deleted", scope: dev, method: "DELETE", target: "/api/v1/namespaces/dev"},
		"ProjectNSStatus":  {reason: "nor its finalizers taken", scope: dev, method: "PUT", target: "/api/v1/namespaces/dev/finalize"},
		"ProjectSystem":    {reason: "secrets of the platform", scope: dev, method: "GET", target: "/api/v1/namespaces/slipway-system/secrets"},
		"ProjectToken":     {reason: "a credential without a scope", scope: dev, method: "POST", target: "/api/v1/namespaces/dev/serviceaccounts/bot/token"},
		"ProjectReview":    {reason: "people may ask what they may do", scope: dev, method: "POST", target: reviews, want: true},
		"ProjectDiscovery": {reason: "kubectl needs it", scope: dev, method: "GET", target: "/openapi/v3", want: true},
		"ProjectNonGet":    {reason: "only reading is for everyone", scope: dev, method: "POST", target: "/version"},
		"ProjectRoute":     {reason: "the project's routes", scope: dev, method: "POST", target: routes + "dev/clusters/blue/kubeconfig", want: true},
		"ProjectProxy":     {reason: "the project's clusters", scope: dev, method: "DELETE", target: inBlue + "/api/v1/namespaces/a", want: true},
		"ProjectRoute2":    {reason: "another project's routes", scope: dev, method: "GET", target: routes + "prod/operations/x/log"},
		"ProjectList":      {reason: "the person's own projects", scope: dev, method: "GET", target: "/slipway/v1/projects", want: true},
		"ProjectMe":        {reason: "who the person is", scope: dev, method: "GET", target: "/slipway/v1/me", want: true},
		"ProjectTokens":    {reason: "not what else the person has", scope: dev, method: "GET", target: "/slipway/v1/me/tokens"},
		"ProjectPassword":  {reason: "not the person's password", scope: dev, method: "POST", target: "/slipway/v1/me/password"},
		"ProjectLogout":    {reason: "a token may end itself", scope: dev, method: "POST", target: "/slipway/v1/logout", want: true},
		"ProjectAudit":     {reason: "what is in no project", scope: dev, method: "GET", target: "/slipway/v1/audit"},
		"ProjectUserRoute": {reason: "what is in no project", scope: dev, method: "POST", target: "/slipway/v1/users/bob/password"},
		"ProjectDots":      {reason: "a path that means another", scope: dev, method: "GET", target: routes + "dev/../prod/operations/x/log"},
		"ProjectDots2":     {reason: "a path that means another", scope: dev, method: "GET", target: routes + "dev/%2e%2e/prod/operations/x/log"},
		"ProjectSlashes":   {reason: "a path that means another", scope: dev, method: "GET", target: "/slipway//v1/projects"},
		"ProjectEscaped":   {reason: "an escaped slash makes another project", scope: dev, method: "GET", target: routes + "dev%2Foperations/x/log/log"},
		"ProjectReads":     {reason: "both limits count", scope: devReads, method: "POST", target: ns + "dev/clusters"},
		"ProjectReads2":    {reason: "both limits count", scope: devReads, method: "GET", target: ns + "prod/clusters"},
		"ProjectReads3":    {reason: "both limits count", scope: devReads, method: "GET", target: ns + "dev/clusters", want: true},

		"Cluster":          {reason: "the way into the cluster", scope: blue, method: "POST", target: inBlue + "/api/v1/namespaces", want: true},
		"ClusterExec":      {reason: "the way into the cluster", scope: blue, method: "GET", target: inBlue + "/api/v1/namespaces/a/pods/b/exec", upgrade: true, want: true},
		"ClusterRoot":      {reason: "the way into the cluster", scope: blue, method: "GET", target: inBlue + "/", want: true},
		"ClusterOther":     {reason: "another cluster", scope: blue, method: "GET", target: routes + "dev/clusters/green/proxy/api"},
		"ClusterPrefix":    {reason: "a cluster that begins the same", scope: blue, method: "GET", target: routes + "dev/clusters/blue2/proxy/api"},
		"ClusterNotProxy":  {reason: "a route that begins the same", scope: blue, method: "GET", target: inBlue + "2/api"},
		"ClusterConfig":    {reason: "no longer-lived credential", scope: blue, method: "POST", target: routes + "dev/clusters/blue/kubeconfig"},
		"ClusterBreak":     {reason: "no credential past Slipway", scope: blue, method: "POST", target: routes + "dev/clusters/blue/breakglass"},
		"ClusterAPI":       {reason: "nothing of the platform", scope: blue, method: "GET", target: ns + "dev/clusters/blue"},
		"ClusterMe":        {reason: "nothing of the platform", scope: blue, method: "GET", target: "/slipway/v1/me"},
		"ClusterDiscovery": {reason: "nothing of the platform", scope: blue, method: "GET", target: "/apis"},
		"ClusterDots":      {reason: "a path that means another", scope: blue, method: "GET", target: inBlue + "/../../green/proxy/api"},
		"ClusterEscaped":   {reason: "a path that means another", scope: blue, method: "GET", target: routes + "dev/clusters/blue%2Fproxy/api"},
		"ClusterReads":     {reason: "both limits count", scope: blueReads, method: "DELETE", target: inBlue + "/api/v1/namespaces/a"},
		"ClusterReads2":    {reason: "both limits count", scope: blueReads, method: "GET", target: inBlue + "/api/v1/namespaces/a", want: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			who := info("alice", "1", "alice", nil, "token:x", tc.scope)
			err := ScopeAllows(who, asked(t, tc.method, tc.target, tc.upgrade))
			if (err == nil) != tc.want {
				t.Errorf("%s: %v", tc.reason, err)
			}
			if err != nil && !apierrors.IsForbidden(err) {
				t.Errorf("the refusal is no Forbidden: %v", err)
			}
		})
	}
}

// asked makes a request as a server reads it: the path is not cleaned.
func asked(t *testing.T, method, target string, upgrade bool) *http.Request {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, "/", nil)
	r.URL = u
	if upgrade {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
	}
	return r
}

// TestMustChangeAllows holds that a person who must choose a password does nothing else.
func TestMustChangeAllows(t *testing.T) {
	cases := map[string]struct {
		method, target string
		want           bool
	}{
		"Password": {"POST", "/slipway/v1/me/password", true},
		"Logout":   {"POST", "/slipway/v1/logout", true},
		"Login":    {"POST", "/slipway/v1/login", true},
		"Page":     {"GET", "/slipway/login", true},
		"Script":   {"GET", "/slipway/login.js", true},
		"Me":       {"GET", "/slipway/v1/me", false},
		"Tokens":   {"POST", "/slipway/v1/me/tokens", false},
		"API":      {"GET", "/api/v1/namespaces", false},
		"Apis":     {"GET", "/apis", false},
		"Dots":     {"GET", "/slipway/login/../../api/v1/secrets", false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			who := info("alice", "1", "alice", nil, "session:x", Scope{})
			who.Extra[mustChangeKey] = []string{"true"}
			err := ScopeAllows(who, asked(t, tc.method, tc.target, false))
			if (err == nil) != tc.want {
				t.Fatal(err)
			}
			if name == "API" && apierrors.ReasonForError(err) != ReasonPasswordMustChange {
				t.Errorf("the refusal does not say why: %v", err)
			}
		})
	}
}
