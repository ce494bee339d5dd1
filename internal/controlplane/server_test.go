package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

var widgets = schema.GroupVersionResource{Group: "test.slipway.dev", Version: "v1", Resource: "widgets"}

func widgetCRD() *apiextensionsv1.CustomResourceDefinition {
	minimum := 1.0
	preserve := apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{
		"spec": {Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{
			"size":  {Type: "integer", Minimum: &minimum, Description: "How large the widget is."},
			"color": {Type: "string"},
		}},
		"status": {Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"ready": {Type: "boolean"}}},
	}}
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "widgets.test.slipway.dev"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: widgets.Group,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "widgets", Singular: "widget", Kind: "Widget", ListKind: "WidgetList"},
			Scope: apiextensionsv1.NamespaceScoped,
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema:       &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &preserve},
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
			}},
		},
	}
}

func widget(name string, owner *unstructured.Unstructured) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "test.slipway.dev/v1", "kind": "Widget",
		"metadata": map[string]any{"name": name},
		"spec":     map[string]any{"size": int64(1)},
	}}
	if owner != nil {
		blocks := true
		object.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "test.slipway.dev/v1", Kind: "Widget",
			Name: owner.GetName(), UID: owner.GetUID(), BlockOwnerDeletion: &blocks}})
	}
	return object
}

type bench struct {
	*Server
	directory string
	core      kubernetes.Interface
	dynamic   dynamic.Interface
}

func start(t *testing.T, directory string) *bench {
	t.Helper()
	level := &slog.HandlerOptions{Level: slog.LevelWarn}
	began := time.Now()
	server, err := Start(t.Context(), Config{DataDir: directory, Version: "1.2.3", OpenAudit: openAudit(directory),
		CRDs: []*apiextensionsv1.CustomResourceDefinition{widgetCRD()}, Logger: slog.New(slog.NewTextHandler(t.Output(), level))})
	if err != nil {
		t.Fatalf("Start() = %v", err)
	}
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Errorf("Stop() = %v", err)
		}
	})
	config := server.RESTConfig()
	return &bench{Server: server, directory: directory, core: kubernetes.NewForConfigOrDie(config), dynamic: dynamic.NewForConfigOrDie(config)}
}

func (b *bench) namespace(t *testing.T, name string) dynamic.ResourceInterface {
	t.Helper()
	if _, err := b.core.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.dynamic.Resource(widgets).Namespace(name)
}

func eventually(t *testing.T, what string, condition func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), poll, 30*time.Second, true, condition); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func gone(err error) (bool, error) {
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return false, err
}

// TestServer starts the real server once for everything that needs one, since a start takes seconds.
func TestServer(t *testing.T) {
	b := start(t, t.TempDir())
	for name, test := range map[string]func(*testing.T, *bench){
		"KindIsServed":           testKind,
		"NamespaceEmptiesItself": testNamespace,
		"ForegroundCascade":      testForeground,
		"RolesAggregate":         testAggregation,
		"SecretIsEncrypted":      testEncryption,
		"AuditNamesThePerson":    testAuditPerson,
		"AuditOfEveryKind":       testAuditKinds,
		"AnonymousIsRefused":     testAnonymous,
		"SecondServerRefused":    testLock,
	} {
		t.Run(name, func(t *testing.T) { test(t, b) })
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Errorf("Stop() = %v", err)
	}
	testAuditServer(t, b.directory)
}

func testKind(t *testing.T, b *bench) {
	client := b.namespace(t, "kind")
	watch, err := client.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	if _, err := client.Create(t.Context(), widget("one", nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case event := <-watch.ResultChan():
		if event.Type != "ADDED" {
			t.Errorf("first event is %s, want ADDED", event.Type)
		}
	case <-time.After(10 * time.Second):
		t.Error("the watch saw nothing")
	}
	applied, err := client.Apply(t.Context(), "one", widget("one", nil), metav1.ApplyOptions{FieldManager: "test", Force: true})
	if err != nil {
		t.Fatalf("server-side apply: %v", err)
	}
	if applied.GetUID() == "" {
		t.Error("apply gave no object")
	}
	bad := widget("two", nil)
	bad.Object["spec"] = map[string]any{"size": int64(0)}
	if _, err := client.Create(t.Context(), bad, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a value below the minimum gave %v, want Invalid", err)
	}
}

func testNamespace(t *testing.T, b *bench) {
	client := b.namespace(t, "doomed")
	if _, err := client.Create(t.Context(), widget("inside", nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace got no default service account", func(ctx context.Context) (bool, error) {
		_, err := b.core.CoreV1().ServiceAccounts("doomed").Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err := b.core.CoreV1().Namespaces().Delete(t.Context(), "doomed", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace did not go", func(ctx context.Context) (bool, error) {
		_, err := b.core.CoreV1().Namespaces().Get(ctx, "doomed", metav1.GetOptions{})
		return gone(err)
	})
}

func testForeground(t *testing.T, b *bench) {
	client := b.namespace(t, "cascade")
	owner, err := client.Create(t.Context(), widget("owner", nil), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Create(t.Context(), widget("child", owner), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	foreground := metav1.DeletePropagationForeground
	if err := client.Delete(t.Context(), "owner", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "owner and child did not go", func(ctx context.Context) (bool, error) {
		left, err := client.List(ctx, metav1.ListOptions{})
		return err == nil && len(left.Items) == 0, err
	})
}

func testAggregation(t *testing.T, b *bench) {
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "widget-viewer", Labels: map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{widgets.Group}, Resources: []string{"widgets"}, Verbs: []string{"get"}}},
	}
	if _, err := b.core.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rule did not reach the view role", func(ctx context.Context) (bool, error) {
		view, err := b.core.RbacV1().ClusterRoles().Get(ctx, "view", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return strings.Contains(fmt.Sprint(view.Rules), widgets.Group), nil
	})
}

func testEncryption(t *testing.T, b *bench) {
	const plain = "correct-horse-battery-staple"
	if _, err := b.core.CoreV1().Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"},
		StringData: map[string]string{"password": plain}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{b.etcd.endpoint()}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	response, err := client.Get(t.Context(), "/registry/secrets/default/s")
	if err != nil {
		t.Fatal(err)
	}
	if len(response.Kvs) != 1 || !bytes.HasPrefix(response.Kvs[0].Value, []byte("k8s:enc:secretbox:")) || bytes.Contains(response.Kvs[0].Value, []byte(plain)) {
		t.Error("the Secret is not encrypted in etcd")
	}
}

func testAnonymous(t *testing.T, b *bench) {
	for name, token := range map[string]string{"no token": "", "a wrong token": "wrong"} {
		config := rest.AnonymousClientConfig(b.RESTConfig())
		config.BearerToken = token
		_, err := kubernetes.NewForConfigOrDie(config).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
		if !apierrors.IsUnauthorized(err) {
			t.Errorf("%s gave %v, want Unauthorized", name, err)
		}
	}
	if err := b.Ready(t.Context()); err != nil {
		t.Errorf("Ready() = %v", err)
	}
}

func testLock(t *testing.T, b *bench) {
	_, err := Start(t.Context(), Config{DataDir: b.directory})
	if err == nil {
		t.Fatal("a second server on the same data directory was started")
	}
	if want := fmt.Sprintf("pid %d", os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("the refusal does not name the holder: %v", err)
	}
}

// TestServerAgain holds that data outlives a stop, that an upgrade copies it first, that newer data is
// refused, and that another installation has other keys.
func TestServerAgain(t *testing.T) {
	directory := filepath.Join(t.TempDir(), strings.Repeat("long", 20))
	first := start(t, directory)
	if _, err := first.namespace(t, "kept").Create(t.Context(), widget("kept", nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	if err := first.Err(); err != nil {
		t.Errorf("Err() after Stop() = %v", err)
	}
	if err := os.WriteFile(filepath.Join(directory, "version"), []byte("1.2.2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := start(t, directory)
	if _, err := second.dynamic.Resource(widgets).Namespace("kept").Patch(t.Context(), "kept", types.MergePatchType, []byte(`{"spec":{"size":2}}`), metav1.PatchOptions{}); err != nil {
		t.Errorf("what was written before the stop is lost: %v", err)
	}
	copies, err := os.ReadDir(filepath.Join(directory, "snapshots"))
	if err != nil || len(copies) != 1 || !strings.HasSuffix(copies[0].Name(), "-1.2.2") {
		t.Errorf("no copy was made before the newer version opened the data: %v, %v", copies, err)
	}
	if err := second.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "version"), []byte("1.3.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Config{DataDir: directory, Version: "1.2.3"}); err == nil || !strings.Contains(err.Error(), "1.3.0") {
		t.Errorf("newer data was not refused by name: %v", err)
	}
	other, err := loadFiles(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"keys/service-account.key", "keys/encryption.yaml"} {
		mine, err := os.ReadFile(filepath.Join(directory, path))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.ReadFile(filepath.Join(filepath.Dir(other.runDir), path))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(mine, theirs) {
			t.Errorf("two installations share %s", path)
		}
		if info, err := os.Stat(filepath.Join(directory, path)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s is %v, want 600 (%v)", path, info.Mode(), err)
		}
	}
}

func TestStartFails(t *testing.T) {
	directory := t.TempDir()
	bad := widgetCRD()
	bad.Spec.Versions[0].Schema = nil
	_, err := Start(t.Context(), Config{DataDir: directory, CRDs: []*apiextensionsv1.CustomResourceDefinition{bad}})
	if err == nil || !strings.Contains(err.Error(), bad.Name) {
		t.Errorf("a CRD that is not valid was not refused by name: %v", err)
	}
	lock, err := openDataDir(directory)
	if err != nil {
		t.Fatalf("the failed start still holds the data directory: %v", err)
	}
	if err := lock.release(); err != nil {
		t.Error(err)
	}
	if _, err := Start(t.Context(), Config{DataDir: directory, Version: "one"}); err == nil {
		t.Error("a version that is none was taken")
	}
}
