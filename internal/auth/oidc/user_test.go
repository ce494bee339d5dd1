package oidc_test

import (
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/auth/oidc"
)

const issuer = "https://sso.example/realm"

func directoryUser(subject, username string, made int64) *v1alpha1.User {
	return &v1alpha1.User{
		ObjectMeta: metav1.ObjectMeta{Name: oidc.UserName(issuer, subject), CreationTimestamp: metav1.NewTime(time.Unix(made, 0))},
		Spec:       v1alpha1.UserSpec{DisplayName: "Old", Directory: &v1alpha1.DirectoryIdentity{Issuer: issuer, Subject: subject, Username: username}},
	}
}

func disabled(u *v1alpha1.User) *v1alpha1.User {
	u.Spec.Disabled = true
	return u
}

func named(u *v1alpha1.User, name string) *v1alpha1.User {
	u.Name = name
	return u
}

func TestAdmit(t *testing.T) {
	alice := oidc.Person{Issuer: issuer, Subject: "1", Username: "alice", Email: "alice@corp.example", DisplayName: "Alice Li"}
	local := &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: "alice"}, Spec: v1alpha1.UserSpec{PlatformRole: v1alpha1.SystemAdministrator}}
	for name, c := range map[string]struct {
		reason  string
		given   []client.Object
		person  oidc.Person
		want    v1alpha1.UserSpec
		refused string
	}{
		"first login": {reason: "a person gets a User, and no role", person: alice,
			want: v1alpha1.UserSpec{Email: "alice@corp.example", DisplayName: "Alice Li", Directory: &v1alpha1.DirectoryIdentity{Issuer: issuer, Subject: "1", Username: "alice"}}},
		"local alice": {reason: "a local account of that name is another person", given: []client.Object{local}, person: alice,
			want: v1alpha1.UserSpec{Email: "alice@corp.example", DisplayName: "Alice Li", Directory: &v1alpha1.DirectoryIdentity{Issuer: issuer, Subject: "1", Username: "alice"}}},
		"later login": {reason: "what the directory says of the person is kept up to date", given: []client.Object{directoryUser("1", "alice", 1)}, person: alice,
			want: v1alpha1.UserSpec{Email: "alice@corp.example", DisplayName: "Alice Li", Directory: &v1alpha1.DirectoryIdentity{Issuer: issuer, Subject: "1", Username: "alice"}}},
		"nothing said": {reason: "a claim that is gone takes nothing away", given: []client.Object{directoryUser("1", "alice", 1)}, person: oidc.Person{Issuer: issuer, Subject: "1", Username: "alice"},
			want: v1alpha1.UserSpec{DisplayName: "Old", Directory: &v1alpha1.DirectoryIdentity{Issuer: issuer, Subject: "1", Username: "alice"}}},
		"renamed": {reason: "roles were given to the first name; a new one in the directory must not move them", given: []client.Object{directoryUser("1", "alice.wang", 1)}, person: alice,
			want: v1alpha1.UserSpec{Email: "alice@corp.example", DisplayName: "Alice Li", Directory: &v1alpha1.DirectoryIdentity{Issuer: issuer, Subject: "1", Username: "alice.wang"}}},
		"name taken": {reason: "a new employee with the name of one who left must not get their roles", given: []client.Object{directoryUser("0", "alice", 1)}, person: alice,
			refused: "belongs to another person of the directory (User " + oidc.UserName(issuer, "0") + ")"},
		"name held": {reason: "who had the name first keeps it, should two ever have it", given: []client.Object{directoryUser("0", "alice", 2), directoryUser("1", "alice", 1)}, person: alice,
			want: v1alpha1.UserSpec{Email: "alice@corp.example", DisplayName: "Alice Li", Directory: &v1alpha1.DirectoryIdentity{Issuer: issuer, Subject: "1", Username: "alice"}}},
		"name not held": {reason: "and who had it later is refused", given: []client.Object{directoryUser("0", "alice", 1), directoryUser("1", "alice", 2)}, person: alice, refused: "belongs to another person"},
		"other issuer": {reason: "the same subject at another provider is another person", given: []client.Object{directoryUser("1", "alice", 1)},
			person: oidc.Person{Issuer: "https://other.example", Subject: "1", Username: "alice"}, refused: "belongs to another person"},
		"disabled": {reason: "the directory does not undo what an administrator did", given: []client.Object{disabled(directoryUser("1", "alice", 1))}, person: alice, refused: "disabled"},
		"forged": {reason: "a User that someone made under this name for another identity", given: []client.Object{named(directoryUser("9", "root", 1), oidc.UserName(issuer, "1"))}, person: alice,
			refused: "not the one the directory names"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newClient(t, c.given...)
			before := len(users(t, k))
			got, err := oidc.Admit(t.Context(), k, c.person)
			if c.refused != "" {
				if !refusedWith(err, c.refused) || len(users(t, k)) != before {
					t.Errorf("%s: error is %v, want %q; %d Users, want %d", c.reason, err, c.refused, len(users(t, k)), before)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			var stored v1alpha1.User
			if err := k.Get(t.Context(), client.ObjectKeyFromObject(got), &stored); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, stored.Spec); diff != "" {
				t.Errorf("%s: %s", c.reason, diff)
			}
			if got.Identity() != "oidc:"+c.want.Directory.Username {
				t.Errorf("%s: the identity is %s", c.reason, got.Identity())
			}
		})
	}
}

func users(t *testing.T, c client.Client) []v1alpha1.User {
	t.Helper()
	var list v1alpha1.UserList
	if err := c.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// TestAdmitTogether proves that of many new people with one username at most one is let in, however their logins interleave.
func TestAdmitTogether(t *testing.T) {
	c := newClient(t)
	var mu sync.Mutex
	var admitted []string
	var group sync.WaitGroup
	for subject := range 8 {
		group.Go(func() {
			u, err := oidc.Admit(t.Context(), c, oidc.Person{Issuer: issuer, Subject: strings.Repeat("x", subject+1), Username: "alice"})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				admitted = append(admitted, u.Name)
			} else if !refusedWith(err, "belongs to another person") {
				t.Error(err)
			}
		})
	}
	group.Wait()
	left := users(t, c)
	if len(admitted) > 1 || len(left) != len(admitted) {
		t.Errorf("%d people were let in and %d Users are left; one username is one person's", len(admitted), len(left))
	}
}

func TestUserName(t *testing.T) {
	rule := regexp.MustCompile(`^oidc-[0-9a-f]{35}$`)
	seen := map[string]bool{}
	for _, p := range [][2]string{{"https://a", "b"}, {"https://a\n", "b"}, {"https://a", "B"}, {"https://ab", ""}} {
		name := oidc.UserName(p[0], p[1])
		if !rule.MatchString(name) || seen[name] || name != oidc.UserName(p[0], p[1]) {
			t.Errorf("the name of %q is %s: not valid, or that of another", p, name)
		}
		seen[name] = true
	}
}
