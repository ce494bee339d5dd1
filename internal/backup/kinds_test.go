package backup_test

import (
	"io/fs"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/api/crd"
)

// definition is what the API server makes of a CustomResourceDefinition.
type definition struct {
	schema    *structural.Structural
	validator validation.SchemaValidator
	rules     *cel.Validator
}

func load(t *testing.T, plural string) definition {
	t.Helper()
	content, err := fs.ReadFile(crd.Files, "slipway.dev_"+plural+".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var v1 apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(content, &v1); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	scheme.Default(&v1)
	v1.Status.StoredVersions = []string{"v1alpha1"}
	var internal apiextensions.CustomResourceDefinition
	if err := scheme.Convert(&v1, &internal, nil); err != nil {
		t.Fatal(err)
	}
	// This also bounds what the rules may cost.
	if errs := crdvalidation.ValidateCustomResourceDefinition(t.Context(), &internal); len(errs) > 0 {
		t.Fatalf("the API server would refuse %s: %v", plural, errs.ToAggregate())
	}
	// The conversion moves a schema that all versions share to the top.
	shared := internal.Spec.Validation
	if shared == nil {
		shared = internal.Spec.Versions[0].Schema
	}
	d := definition{}
	if d.schema, err = structural.NewStructural(shared.OpenAPIV3Schema); err != nil {
		t.Fatal(err)
	}
	if d.validator, _, err = validation.NewSchemaValidator(shared.OpenAPIV3Schema); err != nil {
		t.Fatal(err)
	}
	d.rules = cel.NewValidator(d.schema, true, celconfig.PerCallLimit)
	return d
}

// judge says why the API server would refuse an object, or its change from old; "" when it would not.
func (d definition) judge(t *testing.T, old, manifest string) string {
	t.Helper()
	object := func(manifest string) map[string]any {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(manifest), &o); err != nil {
			t.Fatalf("%v in:\n%s", err, manifest)
		}
		defaulting.Default(o, d.schema)
		return o
	}
	now, was := object(manifest), any(nil)
	errs := validation.ValidateCustomResource(nil, now, d.validator)
	if old != "" {
		was = object(old)
	}
	more, _ := d.rules.Validate(t.Context(), nil, d.schema, now, was, celconfig.RuntimeCELCostBudget)
	if errs = append(errs, more...); len(errs) == 0 {
		return ""
	}
	return errs.ToAggregate().Error()
}

// TestKinds: what people may write, and what each mistake is told. A change replaces a text in the good object.
func TestKinds(t *testing.T) {
	type change struct{ reason, old, new, refused string }
	for plural, test := range map[string]struct {
		good string
		// create and update are changes of a new object, and of one that is there.
		create, update []change
	}{
		"backuplocations": {
			good: "metadata: {name: store}\nspec: {description: d, s3: {endpoint: 'https://s3.example.com:9000', bucket: backups, prefix: slipway/, secretName: keys}}",
			create: []change{
				{"a directory", "s3: {endpoint: 'https://s3.example.com:9000', bucket: backups, prefix: slipway/, secretName: keys}", "directory: {path: /srv/backups}", ""},
				{"both kinds", "s3:", "directory: {path: /srv/backups}, s3:", "either spec.directory or spec.s3 or spec.hostDirectory"},
				{"a directory of a host", "s3: {endpoint: 'https://s3.example.com:9000', bucket: backups, prefix: slipway/, secretName: keys}", "hostDirectory: {hosts: [cp1], path: /root/backup}", ""},
				{"a share of hosts", "s3: {endpoint: 'https://s3.example.com:9000', bucket: backups, prefix: slipway/, secretName: keys}", "hostDirectory: {hosts: [cp1, cp2], path: /mnt/backups, mounted: true}", ""},
				{"a directory of hosts that is no share", "s3: {endpoint: 'https://s3.example.com:9000', bucket: backups, prefix: slipway/, secretName: keys}", "hostDirectory: {hosts: [cp1, cp2], path: /mnt/backups}", "name one, or say mounted: true"},
				{"a directory of nobody", "s3: {endpoint: 'https://s3.example.com:9000', bucket: backups, prefix: slipway/, secretName: keys}", "hostDirectory: {hosts: [], path: /root/backup}", "spec.hostDirectory.hosts"},
				{"two of three kinds", "s3:", "hostDirectory: {hosts: [cp1], path: /root/backup}, s3:", "either spec.directory or spec.s3 or spec.hostDirectory"},
				{"neither kind", "s3: {endpoint: 'https://s3.example.com:9000', bucket: backups, prefix: slipway/, secretName: keys}", "directory:", "either spec.directory or spec.s3 or spec.hostDirectory"},
				{"not encrypted", "https:", "http:", "http:// needs insecure"},
				{"not encrypted, and said so", "endpoint: 'https:", "insecure: true, endpoint: 'http:", ""},
				{"no URL", "https://", "", "spec.s3.endpoint"},
				{"a path in the endpoint", ":9000", ":9000/x", "spec.s3.endpoint"},
				{"an IPv6 address", "s3.example.com", "[2001:db8::1]", ""},
				{"a prefix that climbs", "slipway/", "../", "spec.s3.prefix"},
				{"a prefix that is half a name", "slipway/", "slipway", "spec.s3.prefix"},
			},
			update: []change{
				{"the keys", "secretName: keys", "secretName: newer", ""},
				{"the description", "description: d", "description: e", ""},
				{"the bucket", "bucket: backups", "bucket: others", "bucket of a backup location cannot change"},
				{"the endpoint", "s3.example", "s4.example", "endpoint of a backup location cannot change"},
				{"the prefix", "slipway/", "other/", "prefix of a backup location cannot change"},
				{"no prefix any more", "prefix: slipway/, ", "", "prefix of a backup location cannot change"},
				{"the kind", "s3: {endpoint: 'https://s3.example.com:9000', bucket: backups, prefix: slipway/, secretName: keys}", "directory: {path: /srv/backups}", "kind of a backup location cannot change"},
				{"the kind, to a directory of a host", "s3: {endpoint: 'https://s3.example.com:9000', bucket: backups, prefix: slipway/, secretName: keys}", "hostDirectory: {hosts: [cp1], path: /root/backup}", "kind of a backup location cannot change"},
			},
		},
		"backups": {
			good: "metadata: {name: demo-daily-abc123}\nspec: {cluster: demo, location: store, schedule: daily, description: d}",
			create: []change{
				{"by hand", "schedule: daily, ", "", ""},
				{"the name of another cluster", "demo-daily", "prod-daily", "begins with the name of its cluster"},
				{"a name that no store takes", "demo-daily-abc123", "demo-daily.abc", "letters, digits"},
			},
			update: []change{
				{"the description", "description: d", "description: e", ""},
				{"the location", "store", "other", "only the description"},
				{"the schedule", "schedule: daily, ", "", "only the description"},
			},
		},
		"backupschedules": {
			good: "metadata: {name: daily}\nspec: {cluster: demo, location: store, cron: '30 2 * * *', timeZone: Asia/Shanghai, keep: 3, drill: '0 4 * * 0'}",
			create: []change{
				{"once", "cron: '30 2 * * *'", "at: '2026-01-02T03:04:05Z'", ""},
				{"both", "cron:", "at: '2026-01-02T03:04:05Z', cron:", "either cron, to repeat, or at"},
				{"neither", "cron: '30 2 * * *', ", "", "either cron, to repeat, or at"},
				{"four fields", "30 2 * * *", "30 2 * *", "spec.cron"},
				{"the name of backups by hand", "name: daily", "name: manual", "choose another name"},
				{"keep none", "keep: 3", "keep: 0", "spec.keep"},
			},
			update: []change{
				{"time, number and switch", "keep: 3", "keep: 5, enabled: false", ""},
				{"the cluster", "cluster: demo", "cluster: prod", "cluster of a schedule cannot change"},
			},
		},
		"settings": {
			good: "metadata: {name: approval}\nspec: {approval: {required: [create, upgrade], unlessHarmless: [scale, renew]}}",
			create: []change{
				{"a verb that always and one that sometimes waits", "[scale, renew]", "[scale, upgrade]", "either in required or in unlessHarmless"},
				{"the same verb alone in both", "required: [create, upgrade], unlessHarmless: [scale, renew]", "required: [scale], unlessHarmless: [scale]", "either in required or in unlessHarmless"},
				{"only those that always wait", ", unlessHarmless: [scale, renew]", "", ""},
				{"only those that sometimes wait", "required: [create, upgrade], ", "", ""},
				{"none", "required: [create, upgrade], unlessHarmless: [scale, renew]", "required: [], unlessHarmless: []", ""},
				{"a create is never harmless", "[scale, renew]", "[create]", "spec.approval.unlessHarmless"},
				{"a delete never waits", "[create, upgrade]", "[delete]", "spec.approval.required"},
				{"in a setting of another name", "name: approval", "name: ntp", "belongs to the Setting named approval"},
			},
			update: []change{
				{"a verb from the one to the other", "required: [create, upgrade], unlessHarmless: [scale, renew]", "required: [create, scale], unlessHarmless: [upgrade, renew]", ""},
				{"a verb of the one into the other as well", "[scale, renew]", "[scale, renew, create]", "spec.approval.unlessHarmless"},
			},
		},
		"clustertemplates": {
			good: "metadata: {name: three}\nspec: {description: d, kubernetes: {version: v1.36.3}, controlPlane: {count: 3}, workerPools: [{name: a, count: 2}]}",
			create: []change{
				{"an even control plane", "count: 3", "count: 2", "spec.controlPlane.count"},
				{"two pools of one name", "[{", "[{name: a, count: 1}, {", "different names"},
				{"no workers", ", workerPools: [{name: a, count: 2}]", "", ""},
			},
			update: []change{
				{"the version", "v1.36.3", "v1.37.1", ""},
				{"the network", "controlPlane:", "network: {podCIDR: 10.1.0.0/16}, controlPlane:", "cannot change"},
			},
		},
	} {
		d := load(t, plural)
		if got := d.judge(t, "", test.good); got != "" {
			t.Fatalf("%s: the good one is refused: %s", plural, got)
		}
		for old, changes := range map[string][]change{"": test.create, test.good: test.update} {
			for _, c := range changes {
				manifest := strings.Replace(test.good, c.old, c.new, 1)
				if manifest == test.good {
					t.Fatalf("%s: %s: nothing is replaced", plural, c.reason)
				}
				got := d.judge(t, old, manifest)
				if (got == "") != (c.refused == "") || !strings.Contains(got, c.refused) {
					t.Errorf("%s: %s: %q, want %q", plural, c.reason, got, c.refused)
				}
			}
		}
	}
}

// TestHostDirectories: what backups in it depend on stays, and they do not go where a host is cleaned.
func TestHostDirectories(t *testing.T) {
	d := load(t, "backuplocations")
	location := func(text string) string { return "metadata: {name: a}\nspec: {hostDirectory: {" + text + "}}" }
	for path, good := range map[string]bool{
		"/root/backup": true, "/opt/kubeclipper/cluster-backups": true, "/var/lib/backups": true, "/var/lib/etcd-backups": true, "/srv/b": true,
		"/var/lib/etcd": false, "/var/lib/etcd/b": false, "/var/lib/kubelet/b": false, "/var/lib/containerd": false, "/var/lib/slipway/b": false, "/opt/cni/b": false, "/var/log/b": false,
		"/etc/b": false, "/usr/local/b": false, "/run/b": false, "/var/run/b": false, "/root": false, "/root/../etc": false,
	} {
		if got := d.judge(t, "", location("hosts: [cp1], path: "+path)); (got == "") != good {
			t.Errorf("%s: %q, want it taken: %v", path, got, good)
		}
	}
	for reason, c := range map[string]struct{ old, new, refused string }{
		"another host":             {"hosts: [cp1], path: /srv/b", "hosts: [cp2], path: /srv/b", "host of a backup location cannot change"},
		"another path":             {"hosts: [cp1], path: /srv/b", "hosts: [cp1], path: /srv/c", "path of a backup location cannot change"},
		"a share all at once":      {"hosts: [cp1], path: /srv/b", "hosts: [cp1], path: /srv/b, mounted: true", "mounted share cannot change"},
		"one more host of a share": {"hosts: [cp1], path: /srv/b, mounted: true", "hosts: [cp1, cp2], path: /srv/b, mounted: true", ""},
		"no share any more":        {"hosts: [cp1], path: /srv/b, mounted: true", "hosts: [cp1], path: /srv/b", "mounted share cannot change"},
	} {
		if got := d.judge(t, location(c.old), location(c.new)); (got == "") != (c.refused == "") || !strings.Contains(got, c.refused) {
			t.Errorf("%s: %q, want %q", reason, got, c.refused)
		}
	}
}

// TestSystemDirectories: backups do not go where the machine's own files are.
func TestSystemDirectories(t *testing.T) {
	d := load(t, "backuplocations")
	for path, good := range map[string]bool{
		"/srv/backups": true, "/opt/kube/backups": true, "/var/lib/backups": true, "/mnt/nfs.1/b": true,
		"/etc/cron.d": false, "/usr/local": false, "/proc/self": false, "/": false, "/srv": false, "srv/x": false, "/srv/../etc": false, "/srv/.ssh": false, "/srv/a/": false,
	} {
		if got := d.judge(t, "", "metadata: {name: a}\nspec: {directory: {path: '"+path+"'}}"); (got == "") != good {
			t.Errorf("%s: %q, want it taken: %v", path, got, good)
		}
	}
}
