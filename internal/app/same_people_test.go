package app

import (
	"context"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/auth/oidc"
	"slipway.dev/slipway/internal/auth/oidc/oidctest"
)

// furnish makes three projects with a cluster each, and what is needed to tell who sees what.
func (i *installation) furnish(t *testing.T) {
	t.Helper()
	member := func(kind v1alpha1.MemberKind, name string, role v1alpha1.ProjectRole) v1alpha1.ProjectMember {
		return v1alpha1.ProjectMember{Kind: kind, Name: name, Role: role}
	}
	for name, members := range map[string][]v1alpha1.ProjectMember{
		"dev": {member(v1alpha1.MemberUser, rita, v1alpha1.ReadOnly), member(v1alpha1.MemberUser, cleo, v1alpha1.ClusterAdministrator)},
		"ops": {member(v1alpha1.MemberUser, rita, v1alpha1.ReadOnly), member(v1alpha1.MemberGroup, "oidc:ops", v1alpha1.ProjectAdministrator)},
		"lab": nil,
	} {
		if err := i.client.Create(t.Context(), &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.ProjectSpec{Members: members}}); err != nil {
			t.Fatal(err)
		}
		i.eventually(t, "project "+name+" has its namespace", func(ctx context.Context) (bool, error) {
			err := i.client.Get(ctx, client.ObjectKey{Name: name}, &corev1.Namespace{})
			return err == nil, client.IgnoreNotFound(err)
		})
		if err := i.client.Create(t.Context(), &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "demo"}, Spec: clusterSpec()}); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []client.Object{
		&v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "h1"}, Spec: v1alpha1.HostSpec{Address: "127.0.0.1", Port: 1, Credential: "root"}},
		&v1alpha1.Grant{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "h1"}, Spec: v1alpha1.GrantSpec{Kind: v1alpha1.GrantHost, Name: "h1"}},
	} {
		if err := i.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for _, project := range []string{"dev", "ops", "lab"} {
		i.eventually(t, "the operation of project "+project+" ends", func(ctx context.Context) (bool, error) {
			var all v1alpha1.OperationList
			if err := i.client.List(ctx, &all, client.InNamespace(project)); err != nil {
				return false, err
			}
			return len(all.Items) == 1 && (all.Items[0].Status.Phase.Ended() || all.Items[0].Status.Phase == v1alpha1.OperationBlocked), nil
		})
	}
}

// peopleWithEveryWay sets the server up, makes the accounts, and has everybody log in with the program and with a browser.
func (i *installation) peopleWithEveryWay(t *testing.T) map[string]*visitor {
	t.Helper()
	home := t.TempDir()
	password := filepath.Join(home, "password")
	if err := os.WriteFile(password, []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	trusted := []string{"--ca-file", filepath.Join(i.directory, "pki", "gateway.crt")}
	i.mustRun(t, append([]string{"setup", i.setUp, "--password-file", password}, trusted...)...)
	roles := map[string]string{rita: "none", cleo: "none", ada: "Auditor", sam: "SystemAdministrator"}
	people := map[string]*visitor{}
	for name, role := range roles {
		i.mustRun(t, "user", "add", name, "--role", role, "--password-file", password, "--must-change=false")
		v := &visitor{name: name, server: i.config.Host, client: i.anonymous(t), kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
		i.mustRun(t, append([]string{"login", i.config.Host, "--user", name, "--password-file", password}, trusted...)...)
		v.takeLogin(t)
		response, err := v.client.Post(v.server+"/slipway/v1/login", "application/json", strings.NewReader(fmt.Sprintf(`{"user":%q,"password":"correct horse battery"}`, name)))
		if err != nil {
			t.Fatal(err)
		}
		v.takeCookie(t, response)
		people[name] = v
	}
	people[fromOutside] = i.personFromDirectory(t, trusted)
	return people
}

func (i *installation) mustRun(t *testing.T, args ...string) {
	t.Helper()
	if code := i.run(t, args...); code != 0 {
		t.Fatalf("slipway %s: exit code %d: %s", strings.Join(args, " "), code, i.said)
	}
}

// takeLogin moves the login of `slipway login` to a place of its own.
func (v *visitor) takeLogin(t *testing.T) {
	t.Helper()
	written, err := personalKubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(written, v.kubeconfig); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", v.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	v.token = config.BearerToken
}

func (v *visitor) takeCookie(t *testing.T, response *http.Response) {
	t.Helper()
	defer response.Body.Close()
	for _, c := range response.Cookies() {
		if c.Name == auth.SessionCookie && c.Value != "" {
			v.cookie = c
		}
	}
	if v.cookie == nil {
		t.Fatalf("%s has no session: %s", v.name, response.Status)
	}
}

// personFromDirectory logs alice of a real OpenID Connect provider in: in a browser, and with `slipway login --oidc`.
func (i *installation) personFromDirectory(t *testing.T, trusted []string) *visitor {
	t.Helper()
	provider := oidctest.Start(t)
	setting := provider.Setting()
	setting.ClientSecretName = "sso"
	for _, o := range []client.Object{
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "sso"}, Type: v1alpha1.SecretTypeCredential,
			StringData: map[string]string{oidc.SecretKey: oidctest.ClientSecret}},
		&v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingLogin}, Spec: v1alpha1.SettingSpec{Login: &v1alpha1.LoginSetting{OIDC: &setting}}},
	} {
		if err := i.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	v := &visitor{name: fromOutside, server: i.config.Host, client: i.anonymous(t), kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	// browse follows a login from its first address to where the provider's answer leads.
	browse := func(start string) *http.Response {
		browser := i.anonymous(t)
		var err error
		if browser.Jar, err = cookiejar.New(nil); err != nil {
			t.Fatal(err)
		}
		open := func(address string) *http.Response {
			response, err := browser.Get(address)
			if err != nil {
				t.Fatal(err)
			}
			if err := response.Body.Close(); err != nil {
				t.Fatal(err)
			}
			return response
		}
		began := open(start)
		return open(provider.Login(t, began.Header.Get("Location")).String())
	}
	v.takeCookie(t, browse(v.server+"/slipway/v1/oidc/start"))
	said, done := &lockedBuffer{}, make(chan int, 1)
	go func() {
		done <- Main(t.Context(), append([]string{"login", v.server, "--oidc"}, trusted...), strings.NewReader(""), said, said)
	}()
	var address string
	i.eventually(t, "slipway login says which address to open", func(context.Context) (bool, error) {
		address = regexp.MustCompile(`https://\S+/oidc/start\?\S+`).FindString(said.String())
		return address != "", nil
	})
	response, err := http.Get(browse(address).Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if code := <-done; code != 0 {
		t.Fatalf("slipway login --oidc: exit code %d: %s", code, said)
	}
	v.takeLogin(t)
	return v
}
