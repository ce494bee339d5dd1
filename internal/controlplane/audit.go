package controlplane

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	apiaudit "k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/audit"
)

// AuditLog takes what the API server has to record. It is closed when the API server has ended.
type AuditLog interface {
	audit.Recorder
	io.Closer
}

// auditBackend turns the API server's events into ours, in the request's own goroutine: the line is written before
// the answer ends. It holds what is recorded, and the rule of that is in auditRules and recorded together.
type auditBackend struct{ to audit.Recorder }

// Run has nothing to start.
func (auditBackend) Run(<-chan struct{}) error { return nil }

// Shutdown has nothing to wait for.
func (auditBackend) Shutdown() {}

// String names the backend.
func (auditBackend) String() string { return serviceName }

// ProcessEvents records those of the events that are worth it. It never fails a request.
func (b auditBackend) ProcessEvents(events ...*auditinternal.Event) bool {
	for _, e := range events {
		if recorded(e) {
			b.to.Record(eventOf(e))
		}
	}
	return true
}

// auditRules says before a request runs what must be known at its end. What a person does may be refused, so all of
// it is looked at; what this process reads for itself, or writes all the time, is not.
type auditRules struct{}

// EvaluatePolicyRule gives the level: metadata, or nothing.
func (auditRules) EvaluatePolicyRule(a authorizer.Attributes) apiaudit.RequestAuditConfig {
	config := apiaudit.RequestAuditConfig{Level: auditinternal.LevelMetadata, OmitStages: []auditinternal.Stage{auditinternal.StageRequestReceived}}
	switch who := a.GetUser(); {
	case who != nil && who.GetName() == user.APIServerUser:
		if a.IsReadOnly() || routine(a) {
			config.Level = auditinternal.LevelNone
		}
	case a.GetVerb() == "create" && a.IsResourceRequest() && a.GetSubresource() == "":
		// The answer alone says what name the API made up. Nothing else of it is kept.
		config.Level = auditinternal.LevelRequestResponse
	}
	if goesOn(a.GetVerb(), a.GetSubresource()) {
		// A watch is recorded when it begins, since it may end days later.
		config.OmitStages = append(config.OmitStages, auditinternal.StageResponseComplete)
	}
	return config
}

// goesOn is what the API server takes for a request without an end.
func goesOn(verb, subresource string) bool {
	return verb == "watch" || verb == "proxy" || slices.Contains([]string{"attach", "exec", "proxy", "log", "portforward"}, subresource)
}

// recorded says which events become lines: all that was refused, all changes, and what people read of secrets; of the
// server itself what it changed, and not what it tried.
func recorded(e *auditinternal.Event) bool {
	code := codeOf(e)
	refused := code == http.StatusUnauthorized || code == http.StatusForbidden
	object := auditinternal.ObjectReference{}
	if e.ObjectRef != nil {
		object = *e.ObjectRef
	}
	switch {
	case own(e):
		return code < 400 && changes(e.Verb) && !dryRun(e)
	case refused:
		return true
	case changes(e.Verb):
		// Asking what one may do, or who one is, changes nothing.
		return !strings.HasPrefix(object.Resource, "selfsubject")
	default:
		return object.APIGroup == "" && object.Resource == "secrets" || object.APIGroup == v1alpha1.Group && object.Resource == "credentials"
	}
}

// own says that the request is of this process, for itself.
func own(e *auditinternal.Event) bool {
	return e.User.Username == user.APIServerUser && e.ImpersonatedUser == nil
}

func changes(verb string) bool {
	return !slices.Contains([]string{"get", "list", "watch", "head", "options", "trace", "proxy"}, verb)
}

// routine is what the server writes all the time and nobody decided: it would drown what people do.
func routine(a authorizer.Attributes) bool {
	if a.GetResource() == "secrets" && a.GetNamespace() == v1alpha1.SystemNamespace && (a.GetVerb() == "update" || a.GetVerb() == "patch") {
		// When a session or a token was last used.
		return strings.HasPrefix(a.GetName(), "session-") || strings.HasPrefix(a.GetName(), "token-")
	}
	return a.GetSubresource() == "status" ||
		slices.Contains([]string{"leases", "events", "hostruns", "subjectaccessreviews", "tokenreviews"}, a.GetResource())
}

func codeOf(e *auditinternal.Event) int {
	if e.ResponseStatus == nil {
		return 0
	}
	return int(e.ResponseStatus.Code)
}

// eventOf gives what is kept of an event: names, and never the content of an object or the words of an error, which
// may quote it.
func eventOf(e *auditinternal.Event) audit.Event {
	who := e.User
	if e.ImpersonatedUser != nil {
		who = *e.ImpersonatedUser
	}
	event := audit.Event{Actor: who.Username, Verb: e.Verb, Object: objectOf(e), From: clientOf(e), Code: codeOf(e)}
	event.Result = audit.ResultOf(event.Code)
	if via := who.Extra[audit.ViaKey]; len(via) > 0 {
		event.Via = via[0]
	}
	if e.ObjectRef != nil {
		event.Project = e.ObjectRef.Namespace
		if e.ObjectRef.APIGroup == v1alpha1.Group && e.ObjectRef.Resource == "projects" {
			event.Project = e.ObjectRef.Name
		}
	}
	if event.Result != audit.Allowed && e.ResponseStatus != nil {
		event.Reason = string(e.ResponseStatus.Reason)
	}
	if dryRun(e) {
		event.Detail = map[string]string{"dryRun": "All"}
	}
	return event
}

// objectOf gives RESOURCE[.GROUP][/SUBRESOURCE] [NAMESPACE/]NAME; the name is * for all there are.
func objectOf(e *auditinternal.Event) string {
	object := e.ObjectRef
	if object == nil {
		path, _, _ := strings.Cut(e.RequestURI, "?")
		return path
	}
	text := object.Resource
	if object.APIGroup != "" && object.APIGroup != v1alpha1.Group {
		text += "." + object.APIGroup
	}
	if object.Subresource != "" {
		text += "/" + object.Subresource
	}
	name := object.Name
	if name == "" {
		name = madeUp(e)
	}
	if object.Namespace != "" && object.Resource != "namespaces" {
		name = object.Namespace + "/" + name
	}
	return text + " " + name
}

// madeUp gives the name that the API made up for a new object.
func madeUp(e *auditinternal.Event) string {
	var answer struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if e.Verb == "create" && e.ResponseObject != nil && json.Unmarshal(e.ResponseObject.Raw, &answer) == nil && answer.Metadata.Name != "" {
		return answer.Metadata.Name
	}
	return "*"
}

// clientOf gives the address of the client: what the gateway says, and of others who they really are, since anyone can
// claim to pass on a request.
func clientOf(e *auditinternal.Event) string {
	switch {
	case len(e.SourceIPs) == 0 || own(e):
		return ""
	case e.User.Username == gatewayUser:
		return e.SourceIPs[0]
	default:
		return e.SourceIPs[len(e.SourceIPs)-1]
	}
}

func dryRun(e *auditinternal.Event) bool {
	_, query, _ := strings.Cut(e.RequestURI, "?")
	values, err := url.ParseQuery(query)
	return err == nil && values.Has("dryRun")
}
