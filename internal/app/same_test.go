package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// fromOutside is alice of the directory: project administrator in ops, by the group ops. The others are those of TestAccess.
const fromOutside = "oidc:alice"

// TestSameByEveryWay asks a whole server the same things as several people, each by `slipway`, by kubectl's own code, and
// over HTTP with a token and with a browser's session. All four must give the same objects and the same refusals, and
// what each person sees is in testdata/same.
func TestSameByEveryWay(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBECONFIG", "")
	cmdutil.BehaviorOnFatal(func(message string, _ int) { panic(died{message}) })
	t.Cleanup(cmdutil.DefaultBehaviorOnFatal)
	i := install(t, ServerOptions{DataDir: t.TempDir(), Version: "1.0.0"})
	i.furnish(t)
	people := i.peopleWithEveryWay(t)
	for _, name := range slices.Sorted(maps.Keys(people)) {
		t.Run(strings.TrimPrefix(name, v1alpha1.DirectoryPrefix), func(t *testing.T) { sameAnswers(t, people[name]) })
	}
	t.Run("PasswordOfAdmin", func(t *testing.T) { samePasswordOfAdmin(t, people) })
	t.Run("RightsEnd", func(t *testing.T) { i.sameEnd(t, people[rita], people[cleo]) })
}

// sameAnswers asks everything, and compares with what the person is to see.
func sameAnswers(t *testing.T, v *visitor) {
	ours := func(resource, namespace, name string) sameQuestion {
		return sameQuestion{group: v1alpha1.Group, resource: resource, namespace: namespace, name: name}
	}
	questions := []sameQuestion{
		ours("projects", "", ""), ours("projects", "", "dev"), ours("projects", "", "lab"), ours("projects", "", "none"),
		{group: v1alpha1.Group, resource: "clusters", everywhere: true},
		ours("clusters", "dev", ""), ours("clusters", "ops", ""), ours("clusters", "lab", ""), ours("clusters", "none", ""),
		ours("clusters", "dev", "demo"), ours("clusters", "lab", "demo"), ours("clusters", "lab", "none"),
		ours("operations", "dev", ""), ours("grants", "dev", ""), ours("grants", "lab", ""),
		ours("hosts", "", ""), ours("hosts", "", "h1"), ours("credentials", "", ""), ours("bundles", "", ""),
		ours("hostclaims", "", ""), ours("users", "", ""), ours("users", "", v.name), ours("settings", "", ""),
		{resource: "secrets", namespace: v1alpha1.SystemNamespace}, {resource: "secrets", namespace: v1alpha1.SystemNamespace, name: "sso"},
		{resource: "namespaces"}, {resource: "namespaces", name: "dev"},
	}
	for _, what := range []sameQuestion{
		ours("clusters", "dev", "demo"), ours("clusters", "lab", "demo"), ours("projects", "", "ops"), ours("hosts", "", "h1"),
		ours("users", "", "admin"), ours("users", "", rita), ours("grants", "dev", "h1"),
		{resource: "secrets", namespace: v1alpha1.SystemNamespace, name: "sso"}, {resource: "secrets", namespace: v1alpha1.SystemNamespace, name: "password-admin"},
	} {
		what.remove = true
		questions = append(questions, what)
	}
	var seen strings.Builder
	answers := map[string]sameAnswer{}
	for _, q := range questions {
		a := v.ask(t, q)
		answers[q.String()] = a
		fmt.Fprintf(&seen, "%s\n\t%s\n", q, varies(a.String()))
	}
	v.compareLists(t, answers)
	path := filepath.Join("testdata", "same", strings.TrimPrefix(v.name, v1alpha1.DirectoryPrefix)+".golden")
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(seen.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; UPDATE_GOLDEN=1 writes it", err)
	}
	if diff := cmp.Diff(string(want), seen.String()); diff != "" {
		t.Errorf("what %s sees (-file +now); UPDATE_GOLDEN=1 writes it:\n%s", v.name, diff)
	}
}

// varies takes out what is another one in each installation.
func varies(text string) string {
	text = regexp.MustCompile(`-(create|delete)-[0-9a-f]{5}`).ReplaceAllString(text, "-$1-UID")
	text = regexp.MustCompile(`(session|token)-[a-z2-7]{16}`).ReplaceAllString(text, "$1-ID")
	return regexp.MustCompile(`oidc-[0-9a-f]{35}`).ReplaceAllString(text, "oidc-DIGEST")
}

// compareLists compares the lists of the program's own nouns with the answers of the API.
func (v *visitor) compareLists(t *testing.T, answers map[string]sameAnswer) {
	t.Helper()
	list := func(args ...string) sameAnswer {
		printed, refused := guarded(func(out io.Writer) error { return v.slipway(t.Context(), out, append(args, "-o", "json")...) })
		if refused != "" {
			return sameAnswer{Refused: refused}
		}
		return objectsIn(t, printed)
	}
	projects := list("project", "list")
	if diff := cmp.Diff(answers["get projects.slipway.dev"], projects); diff != "" {
		t.Errorf("slipway project list (-api +program):\n%s", diff)
	}
	var everywhere []string
	for _, project := range []string{"dev", "ops", "lab"} {
		api, program := answers["get clusters.slipway.dev -n "+project], list("cluster", "list", "-p", project)
		if _, message, _ := strings.Cut(api.Refused, ": "); api.Refused != "" && strings.Contains(program.Refused, message) && strings.Contains(program.Refused, "exit code 4") {
			continue
		}
		if diff := cmp.Diff(api, program); diff != "" {
			t.Errorf("slipway cluster list -p %s (-api +program):\n%s", project, diff)
		}
		everywhere = append(everywhere, api.Names...)
	}
	slices.Sort(everywhere)
	if diff := cmp.Diff(everywhere, list("cluster", "list", "-A").Names); diff != "" {
		t.Errorf("slipway cluster list -A is not the lists of all projects together:\n%s", diff)
	}
	// As people read it: kubectl's table of the own projects comes from this server's own list.
	for way, do := range map[string]func(context.Context, io.Writer, ...string) error{"slipway": v.slipway, "kubectl": v.kubectl} {
		printed, refused := guarded(func(out io.Writer) error { return do(t.Context(), out, "get", "projects", "--no-headers") })
		var names []string
		for scanner := bufio.NewScanner(strings.NewReader(printed)); scanner.Scan(); {
			names = append(names, strings.Fields(scanner.Text())[0])
		}
		if diff := cmp.Diff(projects.Names, names); diff != "" || refused != "" {
			t.Errorf("%s get projects prints %s:\n%s", way, refused, diff)
		}
	}
}

// samePasswordOfAdmin: only admin may set the password of admin, by whatever way another system administrator tries.
func samePasswordOfAdmin(t *testing.T, people map[string]*visitor) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("now I am the admin\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ reason, who, user, refused string }{
		{"who has every right still may not become admin", sam, "admin", "only admin may set the password of admin"},
		{"a role in a project says nothing of users", fromOutside, "rita", "may not create users/password"},
	} {
		v := people[c.who]
		_, refused := guarded(func(out io.Writer) error {
			return v.slipway(t.Context(), out, "user", "set-password", c.user, "--password-file", password)
		})
		if !strings.Contains(refused, c.refused) || !strings.Contains(refused, "exit code 4") {
			t.Errorf("%s: the program says %q", c.reason, refused)
		}
		for _, browser := range []bool{false, true} {
			request, err := v.request(t.Context(), browser, http.MethodPost, "/slipway/v1/users/"+c.user+"/password", strings.NewReader(`{"password":"now I am the admin"}`))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			response, err := v.client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err := errors.Join(err, response.Body.Close()); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != http.StatusForbidden || !strings.Contains(string(body), c.refused) {
				t.Errorf("%s: the answer is %s: %s", c.reason, response.Status, body)
			}
		}
	}
}

// sameEnd takes a person out of a project while watches of the project are open by every way in: all end, nothing more is
// shown, and nobody else's ends.
func (i *installation) sameEnd(t *testing.T, leaves, stays *visitor) {
	watches := map[string]func(context.Context, io.Writer) error{}
	args := []string{"get", "clusters", "-n", "dev", "-o", "name", "--watch"}
	watches["slipway"] = func(ctx context.Context, out io.Writer) error { return leaves.slipway(ctx, out, args...) }
	watches["kubectl"] = func(ctx context.Context, out io.Writer) error { return leaves.kubectl(ctx, out, args...) }
	path := sameQuestion{group: v1alpha1.Group, resource: "clusters", namespace: "dev"}.path() + "?watch=true"
	watches["token"] = func(ctx context.Context, out io.Writer) error { return leaves.follow(ctx, false, path, out) }
	watches["browser"] = func(ctx context.Context, out io.Writer) error { return leaves.follow(ctx, true, path, out) }
	watches["other"] = func(ctx context.Context, out io.Writer) error { return stays.follow(ctx, false, path, out) }
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended, shown := map[string]chan struct{}{}, map[string]*lockedBuffer{}
	for way, follow := range watches {
		over, buffer := make(chan struct{}), &lockedBuffer{}
		ended[way], shown[way] = over, buffer
		go func() {
			defer close(over)
			guarded(func(io.Writer) error { return follow(ctx, buffer) })
		}()
	}
	for way, buffer := range shown {
		i.eventually(t, "the watch by "+way+" begins", func(context.Context) (bool, error) { return strings.Contains(buffer.String(), "demo"), nil })
	}
	for way, over := range ended {
		select {
		case <-over:
			t.Fatalf("the watch by %s ended before anything happened", way)
		default:
		}
	}
	var project v1alpha1.Project
	if err := i.client.Get(t.Context(), client.ObjectKey{Name: "dev"}, &project); err != nil {
		t.Fatal(err)
	}
	project.Spec.Members = slices.DeleteFunc(project.Spec.Members, func(m v1alpha1.ProjectMember) bool { return m.Name == leaves.name })
	if err := i.client.Update(t.Context(), &project); err != nil {
		t.Fatal(err)
	}
	timeout := time.After(2 * moment)
	for _, way := range []string{"slipway", "kubectl", "token", "browser"} {
		select {
		case <-ended[way]:
		case <-timeout:
			t.Errorf("the watch by %s goes on", way)
		}
	}
	late := &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "late"}, Spec: clusterSpec()}
	if err := i.client.Create(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	i.eventually(t, "the other person's watch goes on", func(context.Context) (bool, error) { return strings.Contains(shown["other"].String(), "late"), nil })
	for way, buffer := range shown {
		if way != "other" && strings.Contains(buffer.String(), "late") {
			t.Errorf("the watch by %s shows what was made after the right ended", way)
		}
	}
	a := leaves.ask(t, sameQuestion{group: v1alpha1.Group, resource: "clusters", namespace: "dev"})
	if !strings.HasPrefix(a.Refused, "(Forbidden)") {
		t.Errorf("%s still sees %s", leaves.name, a)
	}
}

// follow copies a watch until it ends.
func (v *visitor) follow(ctx context.Context, browser bool, path string, out io.Writer) error {
	request, err := v.request(ctx, browser, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	response, err := v.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(out, response.Body)
	return err
}

func clusterSpec() v1alpha1.ClusterSpec {
	return v1alpha1.ClusterSpec{Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.36.3"}, ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{"h1"}}}
}
