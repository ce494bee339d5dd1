package app

import (
	"bytes"
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

const canary = "canary-in-a-secret"

func systemSecret(name string, kind corev1.SecretType) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: name}, Type: kind,
		Data: map[string][]byte{v1alpha1.SecretKeyPassword: []byte(canary)},
	}
}

func testSecrets(t *testing.T, w *accessWorld) {
	mine := systemSecret("host-cp1-a1b2c", v1alpha1.SecretTypeCredential)
	mine.Labels = map[string]string{"slipway.dev/host": "cp1"}
	with := func(change func(*corev1.Secret)) *corev1.Secret {
		s := systemSecret("s", v1alpha1.SecretTypeCredential)
		change(s)
		return s
	}
	keys, oldKeys, oldLogin := systemSecret("cluster-demo", v1alpha1.SecretTypeKeys), systemSecret("cluster-old", ""), systemSecret("credential-old", "")
	unmarked := systemSecret("cluster-unmarked", "")
	marked := systemSecret("marked", "")
	oldKeys.Labels = map[string]string{v1alpha1.LabelCluster: "old"}
	marked.Labels = oldKeys.Labels
	session := systemSecret("session-1", v1alpha1.SecretTypeSession)
	w.create(t, keys, oldKeys, oldLogin, marked, unmarked, session)
	elsewhere := systemSecret("s", "")
	elsewhere.Namespace = metav1.NamespaceDefault
	const onlyCreate, onlyDelete, names, marks = "may create only Secrets of type", "may delete only Secrets of type", "names that begin", "labels and annotations"
	const immutable, background = "cannot be changed", "only with the propagation policy"
	w.try(t, map[string]attempt{
		"01 create":             {reason: "a host's login", who: sam, do: creating(mine)},
		"02 generated":          {reason: "as the CLI does", who: sam, do: creating(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, GenerateName: "host-w1-"}, Type: v1alpha1.SecretTypeCredential})},
		"03 opaque":             {reason: "nobody could tell it from the server's own", who: sam, do: creating(systemSecret("s", "")), refused: onlyCreate},
		"04 opaque by admin":    {reason: "for everybody", who: admin, do: creating(systemSecret("s", "")), refused: onlyCreate},
		"05 keys":               {reason: "a cluster would be made with sam's keys", who: sam, do: creating(systemSecret("s", v1alpha1.SecretTypeKeys)), refused: onlyCreate},
		"06 token":              {reason: "sam could log in as anyone", who: sam, do: creating(systemSecret("s", v1alpha1.SecretTypeToken)), refused: onlyCreate},
		"07 name of keys":       {reason: "a cluster of that name could not be made", who: sam, do: creating(systemSecret("cluster-next", v1alpha1.SecretTypeCredential)), refused: names},
		"08 name of a session":  {reason: "whoever reads by name alone", who: sam, do: creating(systemSecret("session-2", v1alpha1.SecretTypeCredential)), refused: names},
		"09 name of a token":    {reason: "whoever reads by name alone", who: sam, do: creating(systemSecret("token-2", v1alpha1.SecretTypeCredential)), refused: names},
		"10 name of a password": {reason: "whoever reads by name alone", who: sam, do: creating(systemSecret("password-bob", v1alpha1.SecretTypeCredential)), refused: names},
		"11 name of set-up":     {reason: "whoever reads by name alone", who: sam, do: creating(systemSecret("setup", v1alpha1.SecretTypeCredential)), refused: names},
		"12 label":              {reason: "it would be believed as a registry token", who: sam, do: creating(with(func(s *corev1.Secret) { s.Labels = oldKeys.Labels })), refused: marks},
		"13 annotation":         {reason: "the prefix is the server's", who: sam, do: creating(with(func(s *corev1.Secret) { s.Annotations = map[string]string{"slipway.dev/x": "y"} })), refused: marks},
		"14 finalizer":          {reason: "another's delete would show it", who: sam, do: creating(with(func(s *corev1.Secret) { s.Finalizers = []string{"sam.example/stay"} })), refused: "cannot have finalizers"},
		"15 get": {reason: "never", who: sam, refused: rbacSays, do: func(ctx context.Context, c client.Client) error {
			return c.Get(ctx, client.ObjectKeyFromObject(mine), mine.DeepCopy())
		}},
		"16 list": {reason: "never", who: sam, refused: rbacSays, do: func(ctx context.Context, c client.Client) error {
			return c.List(ctx, &corev1.SecretList{}, client.InNamespace(v1alpha1.SystemNamespace))
		}},
		"17 patch":              {reason: "an empty patch answers with the Secret", who: sam, do: merge(mine, `{}`), refused: rbacSays},
		"18 apply":              {reason: "apply needs patch", who: sam, refused: rbacSays, do: apply(`{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: slipway-system}, type: slipway.dev/credential}`)},
		"19 put":                {reason: "never", who: sam, refused: rbacSays, do: func(ctx context.Context, c client.Client) error { return c.Update(ctx, mine.DeepCopy()) }},
		"20 patch by admin":     {reason: "a new secret is a new object", who: admin, do: merge(mine, `{}`), refused: immutable},
		"21 put by admin":       {reason: "a new secret is a new object", who: admin, do: put(mine, func(*corev1.Secret) {}), refused: immutable},
		"22 foreground":         {reason: "the answer would be the Secret", who: sam, do: removing(mine, client.PropagationPolicy(metav1.DeletePropagationForeground)), refused: background},
		"23 orphan, dry":        {reason: "not even that", who: sam, do: removing(mine, client.PropagationPolicy(metav1.DeletePropagationOrphan), client.DryRunAll), refused: background},
		"24 keys":               {reason: "a cluster nobody can reach again", who: sam, do: removing(keys), refused: onlyDelete},
		"25 keys of an old one": {reason: "Opaque once was for all", who: sam, do: removing(oldKeys), refused: onlyDelete},
		"26 marked":             {reason: "the label says whose it is", who: sam, do: removing(marked), refused: onlyDelete},
		"26 unmarked":           {reason: "the name says whose it is", who: sam, do: removing(unmarked), refused: onlyDelete},
		"27 session":            {reason: "sessions end by the route for that", who: sam, do: removing(session), refused: onlyDelete},
		"28 session by admin":   {reason: "for everybody", who: admin, do: removing(session), refused: onlyDelete},
		"29 all": {reason: "the answer would be the list of them", who: sam, refused: rbacSays, do: func(ctx context.Context, c client.Client) error {
			return c.DeleteAllOf(ctx, &corev1.Secret{}, client.InNamespace(v1alpha1.SystemNamespace))
		}},
		"30 delete":             {reason: "people may delete credentials", who: sam, do: removing(mine, client.DryRunAll)},
		"31 background":         {reason: "as kubectl does", who: sam, do: removing(mine, client.PropagationPolicy(metav1.DeletePropagationBackground))},
		"32 old credential":     {reason: "made by a version before the type", who: sam, do: removing(oldLogin)},
		"33 another namespace":  {reason: "there are no secrets of people's elsewhere", who: sam, do: creating(elsewhere), refused: rbacSays},
		"34 elsewhere by admin": {reason: "the policy is for slipway-system", who: admin, do: creating(elsewhere)},
		"35 auditor":            {reason: "everything but Secrets", who: ada, refused: rbacSays, do: func(ctx context.Context, c client.Client) error { return c.List(ctx, &corev1.SecretList{}) }},
		"36 project": {reason: "no member needs any", who: paul, refused: rbacSays, do: func(ctx context.Context, c client.Client) error {
			return c.List(ctx, &corev1.SecretList{}, client.InNamespace("dev"))
		}},
		"37 member deletes": {reason: "credentials are the platform's", who: paul, do: removing(oldKeys), refused: rbacSays},
	})
}

// testSecretsNotShown: what the API server answers to the requests that people may send never holds a value. The
// server's own requests show that the same ones would.
func testSecretsNotShown(t *testing.T, w *accessWorld) {
	people := rest.CopyConfig(w.config)
	people.Impersonate = rest.ImpersonationConfig{UserName: sam, Groups: groupsOf(sam)}
	for name, test := range map[string]struct {
		reason, policy string
		orphan         *bool
		open           bool
	}{
		"background": {reason: "what kubectl sends", policy: "Background"},
		"no policy":  {reason: "what client-go sends"},
		"foreground": {reason: "the delete waits, and answers with the object", policy: "Foreground", open: true},
		"orphan":     {reason: "the delete waits, and answers with the object", policy: "Orphan", open: true},
		"old orphan": {reason: "the option's older name", orphan: new(true), open: true},
	} {
		t.Run(name, func(t *testing.T) {
			secret := systemSecret("shown", v1alpha1.SecretTypeCredential)
			w.create(t, secret)
			t.Cleanup(func() {
				if err := client.IgnoreNotFound(w.server.Delete(context.Background(), secret)); err != nil {
					t.Error(err)
				}
			})
			options := &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}, OrphanDependents: test.orphan}
			if test.policy != "" {
				options.PropagationPolicy = new(metav1.DeletionPropagation(test.policy))
			}
			shown := func(config *rest.Config) bool {
				// The answer of a refused request counts too, so its error does not matter here.
				answer, _ := kubernetes.NewForConfigOrDie(config).CoreV1().RESTClient().Delete().Namespace(secret.Namespace).
					Resource("secrets").Name(secret.Name).Body(options).Do(t.Context()).Raw()
				if len(answer) == 0 {
					t.Error("there was no answer to look into")
				}
				return bytes.Contains(answer, []byte("Y2FuYXJ5")) // canary, in base64.
			}
			if shown(people) {
				t.Errorf("a person was shown the secret: %s", test.reason)
			}
			if got := shown(w.config); got != test.open {
				t.Errorf("the server was shown the secret: %v, want %v: this test would not see it", got, test.open)
			}
		})
	}
	patch := func(config *rest.Config) ([]byte, error) {
		return kubernetes.NewForConfigOrDie(config).CoreV1().RESTClient().Patch(types.MergePatchType).Namespace(v1alpha1.SystemNamespace).
			Resource("secrets").Name("patched").Body([]byte(`{}`)).Do(t.Context()).Raw()
	}
	w.create(t, systemSecret("patched", v1alpha1.SecretTypeCredential))
	if answer, err := patch(people); err == nil || bytes.Contains(answer, []byte("Y2FuYXJ5")) {
		t.Errorf("an empty patch answered %s, %v", answer, err)
	}
	if answer, err := patch(w.config); err != nil || !bytes.Contains(answer, []byte("Y2FuYXJ5")) {
		t.Errorf("the server's empty patch answered %s, %v: this test would not see it", answer, err)
	}
}
