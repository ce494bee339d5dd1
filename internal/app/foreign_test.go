package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// TestForeignHost applies, on a whole server and as a project's own administrator, clusters that name a host of another
// project: it is refused with the words for a host that does not exist, and nothing takes or looks at it.
func TestForeignHost(t *testing.T) {
	i := install(t, ServerOptions{DataDir: t.TempDir(), Version: "1.0.0"})
	for _, o := range []client.Object{
		user(paul, ""),
		&v1alpha1.Project{ObjectMeta: called("dev"), Spec: v1alpha1.ProjectSpec{Members: []v1alpha1.ProjectMember{{Name: paul, Role: v1alpha1.ProjectAdministrator}}}},
		&v1alpha1.Project{ObjectMeta: called("ops")},
		&v1alpha1.Host{ObjectMeta: called("cp1"), Spec: v1alpha1.HostSpec{Address: "127.0.0.1", Port: 1, Credential: "root"}},
	} {
		if err := i.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	lent := &v1alpha1.Grant{ObjectMeta: metav1.ObjectMeta{Namespace: "ops", Name: "cp1"}, Spec: v1alpha1.GrantSpec{Kind: v1alpha1.GrantHost, Name: "cp1"}}
	i.eventually(t, "project ops has its namespace", func(ctx context.Context) (bool, error) {
		return i.client.Create(ctx, lent.DeepCopy()) == nil, nil
	})
	as := i.logInAs(t, paul)
	refusals := map[string]string{}
	for cluster, manifest := range map[string]string{
		"foreign": `{apiVersion: slipway.dev/v1alpha1, kind: Cluster, metadata: {name: foreign, namespace: dev}, spec: {kubernetes: {version: v1.36.3}, controlPlane: {hosts: [cp1]}}}`,
		"missing": `{apiVersion: slipway.dev/v1alpha1, kind: Cluster, metadata: {name: missing, namespace: dev}, spec: {kubernetes: {version: v1.36.3}, controlPlane: {hosts: [cp9]}}}`,
		// As `cluster plan` asks.
		"planned":   `{apiVersion: slipway.dev/v1alpha1, kind: Operation, metadata: {name: planned, namespace: dev}, spec: {verb: create, cluster: planned, wanted: {kubernetes: {version: v1.36.3}, controlPlane: {hosts: [cp1]}}}}`,
		"unplanned": `{apiVersion: slipway.dev/v1alpha1, kind: Operation, metadata: {name: unplanned, namespace: dev}, spec: {verb: create, cluster: unplanned, wanted: {kubernetes: {version: v1.36.3}, controlPlane: {hosts: [cp9]}}}}`,
	} {
		i.eventually(t, "paul may apply "+cluster, func(ctx context.Context) (bool, error) {
			return apply(manifest)(ctx, as) == nil, nil
		})
		i.eventually(t, "the operation of "+cluster+" has failed", func(ctx context.Context) (bool, error) {
			var all v1alpha1.OperationList
			if err := as.List(ctx, &all, client.InNamespace("dev")); err != nil {
				return false, err
			}
			for _, o := range all.Items {
				if o.Spec.Cluster == cluster && o.Status.Phase == v1alpha1.OperationFailed && len(o.Status.Failures) > 0 {
					f := o.Status.Failures[0]
					refusals[cluster] = strings.NewReplacer("cp1", "HOST", "cp9", "HOST", cluster, "CLUSTER").Replace(f.Reason + ": " + f.Message + " " + f.Fix)
				}
			}
			return refusals[cluster] != "", nil
		})
	}
	for foreign, missing := range map[string]string{"foreign": "missing", "planned": "unplanned"} {
		if diff := cmp.Diff(refusals[missing], refusals[foreign]); diff != "" || !strings.Contains(refusals[foreign], "not lent to project dev") {
			t.Errorf("a host of another project is refused with (-no such host +this):\n%s%s", diff, refusals[foreign])
		}
	}
	var claims v1alpha1.HostClaimList
	if err := i.client.List(t.Context(), &claims); err != nil || len(claims.Items) > 0 {
		t.Errorf("the host was claimed: %v, %v", claims.Items, err)
	}
	// What paul cannot name, paul cannot see either.
	if err := as.Get(t.Context(), client.ObjectKey{Name: "cp1"}, &v1alpha1.Host{}); err == nil {
		t.Error("paul reads a host of another project")
	}
}

// logInAs sets the server up, gives a user a password and logs the user in, all over HTTP.
func (i *installation) logInAs(t *testing.T, name string) client.Client {
	t.Helper()
	const password = "correct horse battery"
	admin, err := rest.HTTPClientFor(i.config)
	if err != nil {
		t.Fatal(err)
	}
	_, link, _ := strings.Cut(i.setUp, "#")
	var entered struct{ Token string }
	for _, call := range []struct {
		path string
		body any
		into any
	}{
		{"/slipway/v1/setup", map[string]any{"token": link, "password": password}, nil},
		{"/slipway/v1/users/" + name + "/password", map[string]any{"password": password, "mustChange": false}, nil},
		{"/slipway/v1/login", map[string]any{"user": name, "password": password, "token": true}, &entered},
	} {
		body, err := json.Marshal(call.body)
		if err != nil {
			t.Fatal(err)
		}
		response, err := admin.Post(i.config.Host+call.path, "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(response.Body)
		if closing := response.Body.Close(); err != nil || closing != nil || response.StatusCode >= http.StatusBadRequest {
			t.Fatalf("%s: %s %s %v", call.path, response.Status, answer, err)
		}
		if call.into != nil {
			if err := json.Unmarshal(answer, call.into); err != nil {
				t.Fatal(err)
			}
		}
	}
	config := rest.CopyConfig(i.config)
	config.BearerToken = entered.Token
	c, err := client.New(config, client.Options{Scheme: i.client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
