package app

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/step/kubeadm"
)

// tableObjects are the objects of the table: what is there, and what is made.
type tableObjects map[schema.GroupKind]struct{ there, fresh *unstructured.Unstructured }

// fixtures makes one object of each kind that has a manifest, marked as of project dev.
func (p *accessPort) fixtures(t *testing.T) tableObjects {
	t.Helper()
	content, err := os.ReadFile("testdata/access/objects.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := tableObjects{}
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096); ; {
		o := &unstructured.Unstructured{}
		if err := decoder.Decode(&o.Object); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		kind := o.GroupVersionKind().GroupKind()
		m := all[kind]
		if m.there == nil {
			m.there, m.fresh = o, o.DeepCopy()
			m.fresh.SetName("fresh")
		} else {
			m.fresh = o
		}
		all[kind] = m
	}
	used := map[schema.GroupKind]bool{}
	p.kinds = p.served(t)
	for _, k := range p.kinds {
		m, known := all[k.object()]
		used[k.object()] = true
		if !known {
			t.Errorf("the API serves %s of %s, and testdata/access/objects.yaml has none: write one, and who may what with it below", k.Name, k.in)
			continue
		}
		if k.Namespaced {
			m.there.SetNamespace("dev")
			m.fresh.SetNamespace("dev")
		}
		if _, sub := k.parts(); sub == "" && slices.Contains(k.Verbs, "get") {
			p.exists(t, m.there)
		}
	}
	for kind := range all {
		if !used[kind] {
			t.Errorf("testdata/access/objects.yaml has a %s, which the API does not serve", kind)
		}
	}
	login := systemSecret("host-cp1-fixture", v1alpha1.SecretTypeCredential)
	login.Data[v1alpha1.SecretKeyPassword] = []byte("a-secret-of-the-table")
	p.create(t, login)
	p.demo(t)
	return all
}

// exists makes an object, or marks the one that is there.
func (p *accessPort) exists(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	mark := `{"metadata":{"annotations":{"fixture.example/of":"` + tableMark + `"}}}`
	o = o.DeepCopy()
	status := o.Object["status"]
	if err := p.server.Create(t.Context(), o.DeepCopy()); err != nil && !apierrors.IsAlreadyExists(err) {
		read := o.DeepCopy()
		if p.server.Get(t.Context(), client.ObjectKeyFromObject(o), read) != nil {
			t.Fatalf("cannot make %s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
	p.patch(t, o, mark)
	if status != nil {
		content, err := json.Marshal(map[string]any{"status": status})
		if err != nil {
			t.Fatal(err)
		}
		if err := statusMerge(o, string(content))(t.Context(), p.server); err != nil {
			t.Fatal(err)
		}
	}
}

// demo gives the cluster its keys, and the operation its plan.
func (p *accessPort) demo(t *testing.T) {
	t.Helper()
	ca, err := pki.NewCA("kubernetes", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	p.create(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: cluster.KeysName("demo"), Labels: map[string]string{cluster.LabelProject: "dev"}},
		Type:       v1alpha1.SecretTypeKeys, Data: map[string][]byte{kubeadm.CACert: ca.CertPEM(), kubeadm.CAKey: ca.KeyPEM()},
	})
	if err := p.door.blobs.Put(t.Context(), operation.PlanName("dev", "fixture"), []byte(`{"of":"`+tableMark+`"}`)); err != nil {
		t.Fatal(err)
	}
	newcomer := user("newcomer", "")
	p.create(t, newcomer)
	if err := p.door.people.Accounts.SetPassword(t.Context(), newcomer, tablePassword, false, ""); err != nil {
		t.Fatal(err)
	}
}
