package auth

import (
	"net/http"
	"path"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"slipway.dev/slipway/api/v1alpha1"
)

// The paths that the scope rules speak of.
const (
	routesPath    = "/slipway/"
	projectsPath  = "/slipway/v1/projects"
	mePath        = "/slipway/v1/me"
	passwordPath  = "/slipway/v1/me/password"
	logoutPath    = "/slipway/v1/logout"
	loginPath     = "/slipway/v1/login"
	loginPagePath = "/slipway/login"
)

// ReasonPasswordMustChange is the reason of the refusal that a person gets who has to choose a new password first.
const ReasonPasswordMustChange metav1.StatusReason = "PasswordMustChange"

// ScopeAllows gives nil when what the person came in with may be used for the request, whatever RBAC says, and a
// Forbidden error that says why not. It must be asked before RBAC, for the API and for every route.
func ScopeAllows(who user.Info, r *http.Request) error {
	scope := ScopeOf(who)
	must := MustChange(who)
	if !must && !scope.Limits() {
		return nil
	}
	// A path that is cleaned later would be another one by then. Real clients send none.
	if cleaned := path.Clean(r.URL.Path); r.URL.Path != cleaned && r.URL.Path != cleaned+"/" {
		return forbidden("the path of the request is not plain")
	}
	if must {
		return mustChangeAllows(r)
	}
	if scope.Cluster != "" && !inCluster(r, scope.Cluster) {
		return forbidden("this token is for cluster %s alone", scope.Cluster)
	}
	what, err := infoOf(r)
	if err != nil {
		return apierrors.NewBadRequest("cannot read what the request is about")
	}
	if scope.ReadOnly && !reads(r, what) {
		return forbidden("this token may only read")
	}
	if len(scope.Projects) > 0 && !inProjects(r, what, scope.Projects) {
		return forbidden("this token is for the projects %s alone", strings.Join(scope.Projects, ", "))
	}
	return nil
}

// mustChangeAllows lets a person choose a new password, or leave and come back as someone else.
func mustChangeAllows(r *http.Request) error {
	switch r.URL.Path {
	case passwordPath, logoutPath, loginPath:
		return nil
	case loginPagePath, loginPagePath + ".js", loginPagePath + ".css":
		// The page shows nothing but the form.
		return nil
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: ReasonPasswordMustChange,
		Message: "change your password first: POST " + passwordPath + ", or the page " + loginPagePath,
	}}
}

// infoOf reads a request as the API server behind the gateway will.
func infoOf(r *http.Request) (*request.RequestInfo, error) {
	factory := request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	return factory.NewRequestInfo(r)
}

// inCluster says that the path is the way into that cluster, as it was sent: an escaped slash would move its parts.
func inCluster(r *http.Request, cluster string) bool {
	project, name, _ := strings.Cut(cluster, "/")
	way := projectsPath + "/" + project + "/clusters/" + name + "/proxy"
	sent := r.URL.EscapedPath()
	return sent == way || strings.HasPrefix(sent, way+"/")
}

// reads says that a request changes nothing.
func reads(r *http.Request, what *request.RequestInfo) bool {
	if what.IsResourceRequest {
		return readsResource(what)
	}
	if inner, ok := insideCluster(r); ok {
		what, err := infoOf(inner)
		if err != nil {
			return false
		}
		if what.IsResourceRequest {
			return readsResource(what)
		}
	}
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Header.Get("Upgrade") == ""
}

func readsResource(what *request.RequestInfo) bool {
	if selfReview(what) {
		return true
	}
	// Getting one of these runs commands or reaches further than the object.
	if slices.Contains([]string{"exec", "attach", "portforward", "proxy"}, what.Subresource) {
		return false
	}
	return slices.Contains([]string{"get", "list", "watch"}, what.Verb)
}

// insideCluster gives the request as a managed cluster will see it.
func insideCluster(r *http.Request) (*http.Request, bool) {
	rest, ok := strings.CutPrefix(r.URL.Path, projectsPath+"/")
	if !ok {
		return nil, false
	}
	parts := strings.SplitN(rest, "/", 5)
	if len(parts) != 5 || parts[1] != "clusters" || parts[3] != "proxy" {
		return nil, false
	}
	inner := r.Clone(r.Context())
	inner.URL.Path, inner.URL.RawPath = "/"+parts[4], ""
	return inner, true
}

func selfReview(what *request.RequestInfo) bool {
	if what.Verb != "create" || what.Subresource != "" {
		return false
	}
	switch what.APIGroup {
	case "authorization.k8s.io":
		return what.Resource == "selfsubjectaccessreviews" || what.Resource == "selfsubjectrulesreviews"
	case "authentication.k8s.io":
		return what.Resource == "selfsubjectreviews"
	}
	return false
}

// inProjects says that a request stays within projects, or asks for nothing of any.
func inProjects(r *http.Request, what *request.RequestInfo, projects []string) bool {
	if !what.IsResourceRequest {
		return routeInProjects(r, projects)
	}
	switch {
	case selfReview(what):
		return true
	case what.APIGroup == "" && what.Resource == "serviceaccounts" && what.Subresource == "token":
		// It would give a credential that has no scope.
		return false
	case what.APIGroup == v1alpha1.Group && what.Resource == "projects":
		return what.Verb != "delete" && what.Subresource == "" && slices.Contains(projects, what.Name)
	case what.APIGroup == "" && what.Resource == "namespaces":
		return what.Verb == "get" && what.Subresource == "" && slices.Contains(projects, what.Name)
	default:
		return what.Namespace != "" && slices.Contains(projects, what.Namespace)
	}
}

func routeInProjects(r *http.Request, projects []string) bool {
	reading := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !strings.HasPrefix(r.URL.Path, routesPath) {
		// Discovery, /version and the like.
		return reading
	}
	if r.URL.Path == projectsPath || r.URL.Path == mePath {
		return reading
	}
	if r.URL.Path == logoutPath {
		return true
	}
	return slices.ContainsFunc(projects, func(p string) bool {
		return strings.HasPrefix(r.URL.EscapedPath(), projectsPath+"/"+p+"/")
	})
}
