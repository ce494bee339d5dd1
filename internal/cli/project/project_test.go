package project

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
)

func dev(change func(*v1alpha1.Project)) *v1alpha1.Project {
	p := &v1alpha1.Project{
		ObjectMeta: metav1.ObjectMeta{Name: "dev", UID: "u1", Finalizers: []string{v1alpha1.Finalizer}, CreationTimestamp: metav1.NewTime(outputtest.Now().Add(-2 * time.Hour))},
		Spec: v1alpha1.ProjectSpec{DisplayName: "Development", Members: []v1alpha1.ProjectMember{
			{Kind: v1alpha1.MemberUser, Name: "ann", Role: v1alpha1.ProjectAdministrator}, {Kind: v1alpha1.MemberUser, Name: "ann", Role: v1alpha1.ReadOnly},
			{Kind: v1alpha1.MemberGroup, Name: "oidc:ann", Role: v1alpha1.ReadOnly}}},
	}
	say(p, metav1.ConditionTrue, "Ready", "its members can work in it")
	p.Status.Clusters = 2
	if change != nil {
		change(p)
	}
	return p
}

func say(p *v1alpha1.Project, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&p.Status.Conditions, metav1.Condition{Type: v1alpha1.ProjectReady, Status: status, Reason: reason, Message: message,
		LastTransitionTime: metav1.NewTime(outputtest.Now())})
}

// answers is the server's part: it says how a project that was made, or deleted, fares.
func answers(t *testing.T, reason, message string) outputtest.Hooks {
	t.Helper()
	return outputtest.Hooks{
		Created: func(ctx context.Context, server client.Client, object client.Object) {
			p := object.(*v1alpha1.Project)
			say(p, map[bool]metav1.ConditionStatus{true: metav1.ConditionTrue, false: metav1.ConditionFalse}[reason == "Ready"], reason, message)
			if err := server.Status().Update(ctx, p); err != nil {
				t.Error(err)
			}
		},
		Deleted: func(ctx context.Context, server client.Client, object client.Object) {
			var p v1alpha1.Project
			if err := server.Get(ctx, client.ObjectKeyFromObject(object), &p); err != nil {
				t.Error(err)
				return
			}
			if reason == "Ready" {
				p.Finalizers = nil
				if err := server.Update(ctx, &p); err != nil {
					t.Error(err)
				}
				return
			}
			say(&p, metav1.ConditionFalse, reason, message)
			if err := server.Status().Update(ctx, &p); err != nil {
				t.Error(err)
			}
		},
	}
}

func serveProjects(t *testing.T, b *outputtest.Bench, projects ...v1alpha1.Project) {
	t.Helper()
	b.Mux.HandleFunc("GET /slipway/v1/projects", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v1alpha1.ProjectList{Items: projects}); err != nil {
			t.Error(err)
		}
	})
}

func TestLook(t *testing.T) {
	grant := &v1alpha1.Grant{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "host-w1"}, Spec: v1alpha1.GrantSpec{Kind: v1alpha1.GrantHost, Name: "w1"},
		Status: v1alpha1.GrantStatus{Summary: "4 CPUs, 7.8Gi, debian 12, amd64, free"}}
	held := *dev(func(p *v1alpha1.Project) {
		p.Name = "old"
		say(p, metav1.ConditionFalse, "HasClusters", "it holds cluster demo")
	})
	cases := map[string]struct {
		reason string
		args   []string
		empty  bool
		want   output.ExitCode
	}{
		"list":      {reason: "one line a project, of those that the server says are mine", args: []string{"list"}},
		"list-none": {reason: "who has none is told how one comes by one", args: []string{"list"}, empty: true},
		"list-name": {reason: "for programs", args: []string{"list", "-o", "name"}},
		"show":      {reason: "who may work in it, and with what", args: []string{"show", "dev"}},
		"show-name": {reason: "for programs", args: []string{"show", "dev", "-o", "name"}},
		"show-none": {reason: "a name that is not there has its own code", args: []string{"show", "nope"}, want: output.ExitNotFound},
		"unknown":   {reason: "an unknown verb is an error of usage", args: []string{"paint"}, want: output.ExitUsage},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{}, dev(nil), grant.DeepCopy())
			if tc.empty {
				serveProjects(t, b)
			} else {
				serveProjects(t, b, *dev(nil), held)
			}
			if got := b.Run(t.Context(), New(b.Deps), tc.args...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d", tc.reason, got, tc.want)
			}
			outputtest.Golden(t, name, b.Everything())
		})
	}
}

func TestCreate(t *testing.T) {
	ann := &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: "ann"}}
	cases := map[string]struct {
		reason string
		args   []string
		server string
		want   output.ExitCode
		made   bool
	}{
		"ready":   {reason: "it says what to do next", args: []string{"--member", "ann=project-administrator", "--member", "oidc:b=c@corp=ReadOnly", "--display-name", "Operations"}, server: "Ready", want: output.ExitOK, made: true},
		"typo":    {reason: "a member whom nobody knows may be a mistake", args: []string{"--member", "bob=readonly"}, server: "Ready", want: output.ExitOK, made: true},
		"taken":   {reason: "what cannot be used is told at once", server: "NamespaceTaken", want: output.ExitRefused, made: true},
		"no-role": {reason: "nobody is a member without a role", args: []string{"--member", "ann"}, server: "Ready", want: output.ExitUsage},
		"role":    {reason: "a role is one of three", args: []string{"--member", "ann=root"}, server: "Ready", want: output.ExitUsage},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, answers(t, tc.server, "namespace ops belongs to project other"), ann.DeepCopy())
			if got := b.Run(t.Context(), New(b.Deps), append([]string{"create", "ops"}, tc.args...)...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d", tc.reason, got, tc.want)
			}
			outputtest.Golden(t, "create-"+name, b.Everything())
			var p v1alpha1.Project
			err := b.Client.Get(t.Context(), client.ObjectKey{Name: "ops"}, &p)
			if made := err == nil; made != tc.made {
				t.Fatalf("%s: made %t, %v", tc.reason, made, err)
			}
			if name != "ready" {
				return
			}
			want := v1alpha1.ProjectSpec{DisplayName: "Operations", Members: []v1alpha1.ProjectMember{
				{Kind: v1alpha1.MemberUser, Name: "ann", Role: v1alpha1.ProjectAdministrator}, {Kind: v1alpha1.MemberUser, Name: "oidc:b=c@corp", Role: v1alpha1.ReadOnly}}}
			if diff := cmp.Diff(want, p.Spec); diff != "" {
				t.Errorf("project (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMembers(t *testing.T) {
	both := []string{"User ann ProjectAdministrator", "User ann ReadOnly", "Group oidc:ann ReadOnly"}
	cases := map[string]struct {
		reason string
		args   []string
		want   output.ExitCode
		left   []string
	}{
		"add":          {"a role as people write it", []string{"add-member", "dev", "ann", "--role", "cluster-administrator"}, output.ExitOK, append(both[:3:3], "User ann ClusterAdministrator")},
		"add again":    {"what is so already is no error", []string{"add-member", "dev", "ann", "--role", "ReadOnly"}, output.ExitOK, both},
		"add group":    {"a group of the directory", []string{"add-member", "dev", "oidc:ops", "--group", "--role", "ReadOnly"}, output.ExitOK, append(both[:3:3], "Group oidc:ops ReadOnly")},
		"add no role":  {"nobody is a member without a role", []string{"add-member", "dev", "bob"}, output.ExitUsage, both},
		"remove":       {"all roles of the person, and no group of that name", []string{"remove-member", "dev", "ann"}, output.ExitOK, both[2:]},
		"remove role":  {"one role only", []string{"remove-member", "dev", "ann", "--role", "ReadOnly"}, output.ExitOK, []string{both[0], both[2]}},
		"remove group": {"the group, and no person of that name", []string{"remove-member", "dev", "oidc:ann", "--group"}, output.ExitOK, both[:2]},
		"remove none":  {"a member who is none is not taken out", []string{"remove-member", "dev", "oidc:ann"}, output.ExitNotFound, both},
		"no project":   {"a name that is not there has its own code", []string{"add-member", "nope", "ann", "--role", "ReadOnly"}, output.ExitNotFound, both},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{}, dev(nil), &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: "ann"}})
			if got := b.Run(t.Context(), New(b.Deps), tc.args...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d\n%s", tc.reason, got, tc.want, b.Everything())
			}
			var p v1alpha1.Project
			if err := b.Client.Get(t.Context(), client.ObjectKey{Name: "dev"}, &p); err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, m := range p.Spec.Members {
				left = append(left, string(m.Kind)+" "+m.Name+" "+string(m.Role))
			}
			if diff := cmp.Diff(tc.left, left); diff != "" {
				t.Errorf("%s: members (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestDelete(t *testing.T) {
	cluster := &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "demo"}}
	cases := map[string]struct {
		reason   string
		args     []string
		objects  []client.Object
		stdin    string
		terminal bool
		server   string
		want     output.ExitCode
		// kept says that nothing was asked of the server.
		kept bool
	}{
		"gone":     {reason: "it waits until the namespace is empty", args: []string{"--yes"}, server: "Ready", want: output.ExitOK},
		"asked":    {reason: "a person types the name", stdin: "dev\n", terminal: true, server: "Ready", want: output.ExitOK},
		"another":  {reason: "another name is no confirmation", stdin: "prod\n", terminal: true, server: "Ready", want: output.ExitRefused, kept: true},
		"pipe":     {reason: "nobody can be asked", server: "Ready", want: output.ExitUsage, kept: true},
		"clusters": {reason: "a delete cannot be taken back, so it is not asked for", args: []string{"--yes"}, objects: []client.Object{cluster}, server: "Ready", want: output.ExitRefused, kept: true},
		"held":     {reason: "what the server sees more", args: []string{"--yes"}, server: "HasClusters", want: output.ExitRefused},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, answers(t, tc.server, "it holds host w1 that could not be cleaned"), append(tc.objects, dev(nil))...)
			b.Deps.Terminal = tc.terminal
			b.In.WriteString(tc.stdin)
			if got := b.Run(t.Context(), New(b.Deps), append([]string{"delete", "dev"}, tc.args...)...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d", tc.reason, got, tc.want)
			}
			outputtest.Golden(t, "delete-"+name, b.Everything())
			var p v1alpha1.Project
			err := b.Client.Get(t.Context(), client.ObjectKey{Name: "dev"}, &p)
			if kept := err == nil && p.DeletionTimestamp == nil; kept != tc.kept || (tc.want == output.ExitOK && !apierrors.IsNotFound(err)) {
				t.Errorf("%s: kept %t, %v", tc.reason, kept, err)
			}
		})
	}
}
