package login

import (
	"errors"
	"html/template"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/internal/auth/oidc"
	"slipway.dev/slipway/internal/gateway"
)

const directoryDown = "cannot reach the login of the directory; try again later, or log in with a local account"

// fail shows a browser why it is not logged in, with the way back to the login page. What is not for people goes to the log.
func (o *directoryLogin) fail(w http.ResponseWriter, r *http.Request, err error) error {
	if r.Context().Err() != nil {
		return r.Context().Err() // There is nobody to show anything to.
	}
	code, reason, message := http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, directoryDown
	var refused *oidc.Refused
	// Not errors.As: what the API said to the server, wrapped in an error, is not for people.
	status, forPeople := err.(apierrors.APIStatus)
	switch {
	case errors.Is(err, oidc.ErrNone):
		code, reason, message = http.StatusNotFound, metav1.StatusReasonNotFound, err.Error()
	case errors.As(err, &refused):
		code, reason, message = http.StatusForbidden, metav1.StatusReasonForbidden, refused.Message
		o.Log.WarnContext(r.Context(), "the directory's login is refused", "from", gateway.ClientIP(r), "err", err)
	case forPeople && status.Status().Code < http.StatusInternalServerError:
		code, reason, message = int(status.Status().Code), status.Status().Reason, status.Status().Message
	default:
		o.Log.ErrorContext(r.Context(), "cannot log in with the directory", "from", gateway.ClientIP(r), "err", err)
	}
	gateway.Note(r.Context(), "reason", string(reason)+": "+message)
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", pagePolicy)
	w.WriteHeader(code)
	return failedPage().Execute(w, message)
}

func failedPage() *template.Template {
	return template.Must(template.New("failed").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Slipway: not logged in</title><link rel="stylesheet" href="/slipway/login.css"></head>
<body><main><h1>Not logged in</h1><p>{{.}}</p><p><a href="/slipway/login">Back to the login page</a></p></main></body></html>
`))
}
