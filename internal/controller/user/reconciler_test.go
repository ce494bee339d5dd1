package user

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/auth"
)

type world struct {
	t      *testing.T
	client client.Client
	// has and mustChange are what is known of the password.
	has, mustChange bool
	broken          error
	writes          int
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, has: true}
	w.client = clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.User{}).
		WithIndex(&v1alpha1.User{}, indexIdentity, identities).
		WithInterceptorFuncs(interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				w.writes++
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}).Build()
	return w
}

func (w *world) try(name string) error {
	r := New(Deps{Client: w.client, Live: w.client, Password: func(context.Context, string) (bool, bool, error) { return w.has, w.mustChange, w.broken }})
	_, err := r.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: name}})
	return err
}

// look reconciles a user and gives it, nil when it has gone.
func (w *world) look(name string) *v1alpha1.User {
	w.t.Helper()
	if err := w.try(name); err != nil {
		w.t.Fatal(err)
	}
	var u v1alpha1.User
	err := w.client.Get(w.t.Context(), client.ObjectKey{Name: name}, &u)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return &u
}

func (w *world) secrets() []string {
	w.t.Helper()
	var all corev1.SecretList
	if err := w.client.List(w.t.Context(), &all); err != nil {
		w.t.Fatal(err)
	}
	names := []string{}
	for _, s := range all.Items {
		names = append(names, s.Name)
	}
	return names
}

// members lists who is a member of a project.
func (w *world) members(project string) []string {
	w.t.Helper()
	var p v1alpha1.Project
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: project}, &p); err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, m := range p.Spec.Members {
		names = append(names, string(m.Kind)+" "+m.Name+" "+string(m.Role))
	}
	return names
}

func local(name string, change func(*v1alpha1.User)) *v1alpha1.User {
	u := &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid-1"}}
	if change != nil {
		change(u)
	}
	return u
}

func fromDirectory(u *v1alpha1.User) {
	u.Spec.Directory = &v1alpha1.DirectoryIdentity{Issuer: "https://id.example.org", Subject: "7", Username: "ann@example.org"}
}

func project(name string, members ...v1alpha1.ProjectMember) *v1alpha1.Project {
	return &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.ProjectSpec{Members: members}}
}

func member(kind v1alpha1.MemberKind, name string, role v1alpha1.ProjectRole) v1alpha1.ProjectMember {
	return v1alpha1.ProjectMember{Kind: kind, Name: name, Role: role}
}

// logins are a session, a token and the password of ann, and those of somebody else.
func logins() []client.Object {
	secret := func(name, user string, kind corev1.SecretType) client.Object {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: name, Labels: map[string]string{auth.LabelUser: user}},
			Type:       kind, Data: map[string][]byte{"record": []byte(`{"user":"` + user + `","uid":"uid-1"}`)},
		}
	}
	return []client.Object{
		secret("session-aaaaaaaaaaaaaaaa", "ann", v1alpha1.SecretTypeSession), secret("token-aaaaaaaaaaaaaaaa", "ann", v1alpha1.SecretTypeToken),
		secret("password-ann", "ann", v1alpha1.SecretTypePassword), secret("session-bbbbbbbbbbbbbbbb", "bob", v1alpha1.SecretTypeSession),
		secret("password-bob", "bob", v1alpha1.SecretTypePassword),
	}
}

func TestReady(t *testing.T) {
	cases := map[string]struct {
		reason          string
		change          func(*v1alpha1.User)
		has, mustChange bool
		want            string
		identity        string
	}{
		"ready":          {reason: "a password is enough", has: true, want: ReasonReady, identity: "ann"},
		"no password":    {reason: "nobody can log in without one", want: ReasonNoPassword, identity: "ann"},
		"must change":    {reason: "the first thing to do", has: true, mustChange: true, want: ReasonPasswordMustChange, identity: "ann"},
		"disabled":       {reason: "whatever the password", change: func(u *v1alpha1.User) { u.Spec.Disabled = true }, has: true, mustChange: true, want: ReasonDisabled, identity: "ann"},
		"from directory": {reason: "the directory keeps the password, and RBAC knows the prefixed name", change: fromDirectory, want: ReasonReady, identity: "oidc:ann@example.org"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, local("ann", tc.change))
			w.has, w.mustChange = tc.has, tc.mustChange
			u := w.look("ann")
			ready := meta.FindStatusCondition(u.Status.Conditions, v1alpha1.UserReady)
			if ready == nil || ready.Reason != tc.want || (ready.Status == metav1.ConditionTrue) != (tc.want == ReasonReady) {
				t.Errorf("%s: condition %+v, want %s", tc.reason, ready, tc.want)
			}
			if u.Status.Identity != tc.identity {
				t.Errorf("%s: identity %q", tc.reason, u.Status.Identity)
			}
			w.look("ann")
			if w.writes != 1 {
				t.Errorf("%d writes of a status that did not change", w.writes)
			}
		})
	}
	t.Run("unknown", func(t *testing.T) {
		w := newWorld(t, local("ann", nil))
		w.broken = errors.New("the API does not answer")
		if err := w.try("ann"); err == nil || w.writes > 0 {
			t.Errorf("%v, %d writes: what is not known must not be said", err, w.writes)
		}
	})
}

func TestProjects(t *testing.T) {
	ann := member(v1alpha1.MemberUser, "ann", v1alpha1.ReadOnly)
	objects := []client.Object{local("ann", nil), project("b", ann), project("a", member("", "ann", v1alpha1.ClusterAdministrator)),
		project("group", member(v1alpha1.MemberGroup, "ann", v1alpha1.ReadOnly)), project("other", member(v1alpha1.MemberUser, "oidc:ann", v1alpha1.ReadOnly))}
	w := newWorld(t, objects...)
	if diff := cmp.Diff([]string{"a", "b"}, w.look("ann").Status.Projects); diff != "" {
		t.Errorf("projects (-want +got):\n%s", diff)
	}
	r := New(Deps{Client: w.client, Live: w.client})
	want := []reconcile.Request{{NamespacedName: client.ObjectKey{Name: "ann"}}}
	if diff := cmp.Diff(want, r.members(t.Context(), objects[1])); diff != "" {
		t.Errorf("a change of a project is for its members (-want +got):\n%s", diff)
	}
	if got := r.members(t.Context(), objects[3]); got != nil {
		t.Errorf("a group is nobody's name: %v", got)
	}
	many := newWorld(t, local("ann", nil))
	for i := range 60 {
		if err := many.client.Create(t.Context(), project("p"+string(rune('a'+i/26))+string(rune('a'+i%26)), ann)); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(many.look("ann").Status.Projects); got != maxProjects {
		t.Errorf("%d projects in a status", got)
	}
}

// TestDisable: what lets somebody in is gone, the password stays for when the account is enabled again.
func TestDisable(t *testing.T) {
	w := newWorld(t, append(logins(), local("ann", func(u *v1alpha1.User) { u.Spec.Disabled = true }))...)
	w.look("ann")
	if diff := cmp.Diff([]string{"password-ann", "password-bob", "session-bbbbbbbbbbbbbbbb"}, w.secrets()); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
}

func TestDelete(t *testing.T) {
	members := func(identity string) []v1alpha1.ProjectMember {
		return []v1alpha1.ProjectMember{member(v1alpha1.MemberUser, "bob", v1alpha1.ReadOnly), member(v1alpha1.MemberUser, identity, v1alpha1.ProjectAdministrator),
			member(v1alpha1.MemberUser, identity, v1alpha1.ReadOnly), member(v1alpha1.MemberGroup, "oidc:ann", v1alpha1.ReadOnly)}
	}
	deleted := func(u *v1alpha1.User) {
		u.DeletionTimestamp, u.Finalizers = new(metav1.Now()), []string{v1alpha1.Finalizer}
	}
	cases := map[string]struct {
		reason   string
		user     *v1alpha1.User
		identity string
		others   []client.Object
		left     []string
	}{
		"local":          {reason: "a later ann must inherit nothing", user: local("ann", deleted), identity: "ann", left: []string{"User bob ReadOnly", "Group oidc:ann ReadOnly"}},
		"from directory": {reason: "members name the identity, not the object", user: local("ann", func(u *v1alpha1.User) { deleted(u); fromDirectory(u) }), identity: "oidc:ann@example.org", left: []string{"User bob ReadOnly", "Group oidc:ann ReadOnly"}},
		"of one person two": {reason: "who RBAC still knows by that name keeps the rights", user: local("ann", func(u *v1alpha1.User) { deleted(u); fromDirectory(u) }), identity: "oidc:ann@example.org",
			others: []client.Object{local("oidc-2", func(u *v1alpha1.User) { u.UID = "uid-2"; fromDirectory(u) })},
			left:   []string{"User bob ReadOnly", "User oidc:ann@example.org ProjectAdministrator", "User oidc:ann@example.org ReadOnly", "Group oidc:ann ReadOnly"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, slices.Concat(logins(), tc.others, []client.Object{tc.user, project("dev", members(tc.identity)...), project("ops")})...)
			if u := w.look("ann"); u != nil {
				t.Errorf("%s: the user is still there: %v", tc.reason, u)
			}
			if diff := cmp.Diff([]string{"password-bob", "session-bbbbbbbbbbbbbbbb"}, w.secrets()); diff != "" {
				t.Errorf("%s: secrets (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.left, w.members("dev")); diff != "" {
				t.Errorf("%s: members (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
	t.Run("held until then", func(t *testing.T) {
		w := newWorld(t, local("ann", nil))
		if u := w.look("ann"); !slices.Contains(u.Finalizers, v1alpha1.Finalizer) {
			t.Errorf("finalizers %v: a user could go without leaving its projects", u.Finalizers)
		}
	})
}
