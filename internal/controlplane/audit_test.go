package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"slipway.dev/slipway/internal/audit"
)

var auditKey = bytes.Repeat([]byte{7}, 32)

func openAudit(directory string) func() (AuditLog, error) {
	return func() (AuditLog, error) {
		return audit.Open(audit.Options{Dir: filepath.Join(directory, "audit"), Key: auditKey})
	}
}

// as gives clients that reach the API server as the gateway does for a person.
func (b *bench) as(person, from string, groups ...string) *rest.Config {
	config := b.GatewayConfig()
	config.Impersonate = rest.ImpersonationConfig{UserName: person, Groups: groups, Extra: map[string][]string{audit.ViaKey: {"token:" + person}}}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.Header.Set("X-Forwarded-For", from)
			return next.RoundTrip(r)
		})
	})
	return config
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// auditOf gives what was recorded of a person, in order.
func (b *bench) auditOf(t *testing.T, actor string) []audit.Event {
	t.Helper()
	var events []audit.Event
	_, err := b.audit.(*audit.Log).Search(t.Context(), audit.Query{Actor: actor, Oldest: true}, func(line []byte) error {
		var one audit.Line
		err := json.Unmarshal(line, &one)
		events = append(events, one.Event)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// testAuditPerson holds that one create by a person is one line that says who, with what and from where, and that the
// line is there when the answer is.
func testAuditPerson(t *testing.T, b *bench) {
	alice := kubernetes.NewForConfigOrDie(b.as("alice", "203.0.113.9", "system:masters"))
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "audited"}, StringData: map[string]string{"k": "do-not-log-me"}}
	if _, err := alice.CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []audit.Event{{Actor: "alice", Via: "token:alice", From: "203.0.113.9", Verb: "create", Object: "secrets default/audited", Project: "default",
		Code: 201, Result: audit.Allowed}}
	if diff := cmp.Diff(want, b.auditOf(t, "alice"), cmpopts.IgnoreFields(audit.Event{}, "Time")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// testAuditKinds does one thing of each sort and looks at the lines of it.
func testAuditKinds(t *testing.T, b *bench) {
	if _, err := b.core.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kinds"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const canary = "c4n4ry-do-not-record"
	opaque := func(name, generate string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, GenerateName: generate}, StringData: map[string]string{"k": canary}}
	}
	for name, tc := range map[string]struct {
		reason string
		groups []string
		do     func(context.Context, kubernetes.Interface, dynamic.ResourceInterface) error
		// want are the lines, as verb, object, code, result and reason.
		want []string
	}{
		"get":  {"what people read is not recorded", nil, get("default"), nil},
		"path": {"nor what everyone asks", nil, path("/version"), nil},
		"secret": {"but who reads a Secret is", nil, func(ctx context.Context, c kubernetes.Interface, _ dynamic.ResourceInterface) error {
			_, err := c.CoreV1().Secrets("kinds").Get(ctx, "none", metav1.GetOptions{})
			return ignore(err, apierrors.IsNotFound)
		}, []string{"get secrets kinds/none 404 Failed NotFound"}},
		"secrets": {"one by one or all", nil, func(ctx context.Context, c kubernetes.Interface, _ dynamic.ResourceInterface) error {
			_, err := c.CoreV1().Secrets("kinds").List(ctx, metav1.ListOptions{})
			return err
		}, []string{"list secrets kinds/* 200 Allowed"}},
		"watch": {"a watch of Secrets has one line, and has it while it goes on", nil, func(ctx context.Context, c kubernetes.Interface, _ dynamic.ResourceInterface) error {
			_, err := c.CoreV1().Secrets("kinds").Watch(ctx, metav1.ListOptions{})
			return err
		}, []string{"watch secrets kinds/* 200 Allowed"}},
		"refused": {"every refused request is recorded", []string{"nobodies"}, func(ctx context.Context, c kubernetes.Interface, w dynamic.ResourceInterface) error {
			for _, f := range []func(context.Context, kubernetes.Interface, dynamic.ResourceInterface) error{get("default"), path("/metrics")} {
				if err := f(ctx, c, w); !apierrors.IsForbidden(err) {
					return err
				}
			}
			if _, err := w.Watch(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
				return err
			}
			_, err := w.Create(ctx, widget("no", nil), metav1.CreateOptions{})
			return ignore(err, apierrors.IsForbidden)
		}, []string{"get namespaces default 403 Refused Forbidden", "get /metrics 403 Refused Forbidden",
			"watch widgets.test.slipway.dev kinds/* 403 Refused Forbidden", "create widgets.test.slipway.dev kinds/* 403 Refused Forbidden"}},
		"changes": {"every change is recorded, also one that fails", nil, func(ctx context.Context, _ kubernetes.Interface, w dynamic.ResourceInterface) error {
			made, err := w.Create(ctx, widget("one", nil), metav1.CreateOptions{})
			if err != nil {
				return err
			}
			if _, err := w.Create(ctx, widget("one", nil), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
				return err
			}
			bad := widget("two", nil)
			bad.Object["spec"] = map[string]any{"size": int64(0), "color": canary}
			if _, err := w.Create(ctx, bad, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
				return err
			}
			if _, err := w.Patch(ctx, "one", "application/merge-patch+json", []byte(`{"spec":{"color":"`+canary+`"}}`), metav1.PatchOptions{}); err != nil {
				return err
			}
			if _, err := w.UpdateStatus(ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
				return err
			}
			if _, err := w.Create(ctx, widget("dry", nil), metav1.CreateOptions{DryRun: []string{"All"}}); err != nil {
				return err
			}
			if err := w.Delete(ctx, "one", metav1.DeleteOptions{}); err != nil {
				return err
			}
			return w.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		}, []string{"create widgets.test.slipway.dev kinds/one 201 Allowed", "create widgets.test.slipway.dev kinds/one 409 Failed AlreadyExists",
			"create widgets.test.slipway.dev kinds/two 422 Failed Invalid", "patch widgets.test.slipway.dev kinds/one 200 Allowed",
			"update widgets.test.slipway.dev/status kinds/one 409 Failed Conflict", "create widgets.test.slipway.dev kinds/dry 201 Allowed dryRun",
			"delete widgets.test.slipway.dev kinds/one 200 Allowed", "deletecollection widgets.test.slipway.dev kinds/* 200 Allowed"}},
		"generated": {"the name that the API made up is recorded, and nothing else of the answer", nil, func(ctx context.Context, c kubernetes.Interface, _ dynamic.ResourceInterface) error {
			_, err := c.CoreV1().Secrets("kinds").Create(ctx, opaque("", "made-"), metav1.CreateOptions{})
			return err
		}, []string{"create secrets kinds/made- 201 Allowed"}},
		"asks": {"asking what one may do changes nothing", nil, func(ctx context.Context, c kubernetes.Interface, _ dynamic.ResourceInterface) error {
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "x"}}}
			_, err := c.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			return err
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			groups := tc.groups
			if groups == nil {
				groups = []string{"system:masters"}
			}
			config := b.as("kinds-"+name, "203.0.113.7", groups...)
			if err := tc.do(t.Context(), kubernetes.NewForConfigOrDie(config), dynamic.NewForConfigOrDie(config).Resource(widgets).Namespace("kinds")); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range b.auditOf(t, "kinds-"+name) {
				if e.From != "203.0.113.7" || e.Via != "token:kinds-"+name {
					t.Errorf("%s: from %q via %q", tc.reason, e.From, e.Via)
				}
				object := e.Object
				if at := strings.Index(object, "made-"); at >= 0 && len(object) > at+5 {
					object = object[:at+5]
				}
				line := strings.Join([]string{e.Verb, object, strconv.Itoa(e.Code), string(e.Result), e.Reason}, " ")
				if e.Detail["dryRun"] != "" {
					line += "dryRun"
				}
				got = append(got, strings.TrimSpace(line))
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: -want +got\n%s", tc.reason, diff)
			}
		})
	}
	files, err := filepath.Glob(filepath.Join(b.directory, "audit", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{canary, "YzRuNHJ5LWRvLW5vdC1yZWNvcmQ", "do-not-log-me", "ZG8tbm90LWxvZy1tZQ"} {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s holds the content of an object: %s", path, secret)
			}
		}
	}
}

func get(namespace string) func(context.Context, kubernetes.Interface, dynamic.ResourceInterface) error {
	return func(ctx context.Context, c kubernetes.Interface, _ dynamic.ResourceInterface) error {
		_, err := c.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		return err
	}
}

func path(p string) func(context.Context, kubernetes.Interface, dynamic.ResourceInterface) error {
	return func(ctx context.Context, c kubernetes.Interface, _ dynamic.ResourceInterface) error {
		return c.Discovery().RESTClient().Get().AbsPath(p).Do(ctx).Error()
	}
}

func ignore(err error, is func(error) bool) error {
	if is(err) {
		return nil
	}
	return err
}

// testAuditServer holds what is recorded of the server itself, and of those it does not know. It wants the lines of
// a whole run.
func testAuditServer(t *testing.T, directory string) {
	report, err := audit.VerifyDir(filepath.Join(directory, "audit"), audit.Check{Key: auditKey})
	if err != nil || report.Count > 0 {
		t.Errorf("the audit log is not sound: %+v, %v", report, err)
	}
	files, err := filepath.Glob(filepath.Join(directory, "audit", "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var content []byte
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content = append(content, b...)
	}
	objects := map[string]int{}
	for line := range bytes.Lines(content) {
		var one audit.Line
		if err := json.Unmarshal(line, &one); err != nil {
			t.Fatal(err)
		}
		e := one.Event
		objects[e.Actor+" "+e.Verb+" "+e.Object]++
		if e.Actor != "system:apiserver" {
			continue
		}
		resource, _, _ := strings.Cut(e.Object, " ")
		if e.From != "" || e.Result != audit.Allowed || strings.HasSuffix(resource, "/status") || strings.HasPrefix(resource, "leases") ||
			strings.HasPrefix(resource, "events") || e.Verb == "get" || e.Verb == "list" || e.Verb == "watch" {
			t.Errorf("a line that drowns others: %+v", e)
		}
	}
	for _, want := range []string{"system:slipway start audit", "system:slipway stop audit", "system:apiserver create namespaces kinds",
		"system:apiserver delete namespaces doomed", " list namespaces *"} {
		if objects[want] == 0 {
			t.Errorf("there is no line %q", want)
		}
	}
}
