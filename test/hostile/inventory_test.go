package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/app"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/step"
)

// stringPaths gives the path of every text below a type, as it is named in JSON: strings, bytes, and what could hold
// anything.
func stringPaths(t reflect.Type, path string) []string {
	switch t {
	case reflect.TypeFor[resource.Quantity](), reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.Duration]():
		return nil // They are numbers, however written.
	}
	switch t.Kind() {
	case reflect.String, reflect.Interface:
		return []string{path}
	case reflect.Pointer:
		return stringPaths(t.Elem(), path)
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return []string{path}
		}
		return stringPaths(t.Elem(), path+"[]")
	case reflect.Map:
		return append(stringPaths(t.Key(), path+"{key}"), stringPaths(t.Elem(), path+"{}")...)
	case reflect.Struct:
		var all []string
		for i := range t.NumField() {
			name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			switch {
			case options == "inline" || name == "" && t.Field(i).Anonymous:
				all = append(all, stringPaths(t.Field(i).Type, path)...)
				continue
			case name == "":
				name = t.Field(i).Name
			}
			all = append(all, stringPaths(t.Field(i).Type, path+"."+name)...)
		}
		return all
	}
	return nil
}

// Where a string in a step, or a host's own description in a plan, comes from. Everything but the first two is
// tested by TestPeople, TestBundle or TestAnswers, each of which goes through every string of its kind.
const (
	// constant strings are written in the planner.
	constant = "constant"
	// minted strings are made by the server: identities, names of Secrets, certificates.
	minted = "minted"
	// ofBundle strings are in a bundle's manifest.
	ofBundle = "bundle"
	// ofHost strings are what a machine says of itself; addresses are parsed and printed anew.
	ofHost = "host"
)

// stepStrings says for every string of every step where it comes from: one of the words above, or KIND PATH of what
// people write.
func stepStrings() map[string]string {
	all := map[string]string{
		"backup.drill/v1 .backup.project":                 constant,
		"backup.drill/v1 .backup.name":                    constant,
		"backup.drill/v1 .drill":                          minted,
		"backup.drill/v1 .programs.etcd":                  ofBundle,
		"backup.drill/v1 .programs.apiServer":             ofBundle,
		"backup.drill/v1 .programs.etcdutl":               ofBundle,
		"backup.take/v1 .backup.project":                  constant,
		"backup.take/v1 .backup.name":                     constant,
		"restore.data/v1 .backup.project":                 constant,
		"restore.data/v1 .backup.name":                    constant,
		"restore.data/v1 .restore":                        minted,
		"restore.data/v1 .dataDir":                        "Cluster .spec.components.etcd.dataDir",
		"restore.data/v1 .members[]":                      ofHost,
		"restore.finish/v1 .dataDir":                      "Cluster .spec.components.etcd.dataDir",
		"restore.match-nodes/v1 .hosts[]":                 "Host .metadata.name",
		"restore.prove/v1 .backup.project":                constant,
		"restore.prove/v1 .backup.name":                   constant,
		"restore.restart-kubelet/v1 .restore":             minted,
		"restore.start/v1 .pods[]":                        constant,
		"restore.stop/v1 .restore":                        minted,
		"restore.stop/v1 .dataDir":                        "Cluster .spec.components.etcd.dataDir",
		"bundlefile.install/v1 .files[].path":             constant,
		"bundlefile.install/v1 .files[].digest":           ofBundle,
		"bundlefile.install/v1 .files[].architecture":     ofBundle,
		"bundlefile.install/v1 .output":                   constant,
		"containerd.configure/v1 .dataDir":                "Cluster .spec.runtime.dataDir",
		"containerd.configure/v1 .pauseImage":             ofBundle,
		"containerd.configure/v1 .ca":                     minted,
		"containerd.configure/v1 .token.name":             minted,
		"containerd.configure/v1 .token.key":              constant,
		"containerd.mirrors/v1 .registries[].name":        "Cluster .spec.runtime.registryMirrors[].registry",
		"containerd.mirrors/v1 .registries[].endpoints[]": "Cluster .spec.runtime.registryMirrors[].endpoints[]",
		"containerd.mirrors/v1 .gone[]":                   "Cluster .spec.runtime.registryMirrors[].registry",
		"containerd.mirrors/v1 .token.name":               minted,
		"containerd.mirrors/v1 .token.key":                constant,
		"containerd.pin-images/v1 .images[].name":         ofBundle,
		"containerd.pin-images/v1 .images[].digest":       ofBundle,
		"containerd.pin-images/v1 .images[].architecture": ofBundle,
		"containerd.unpin-images/v1 .names[]":             ofBundle,
		"flannel.install/v1 .image":                       ofBundle,
		"flannel.install/v1 .podCIDR":                     "Cluster .spec.network.podCIDR",
		"flannel.install/v1 .apiHost":                     "Cluster .spec.endpoint.host",
		"flannel.install/v1 .apiPort":                     constant,
		"kubeadm.allow-join/v1 .token.name":               minted,
		"kubeadm.allow-join/v1 .token.key":                constant,
		"kubeadm.certificates/v1 .sans[]":                 "Cluster .spec.endpoint.certSANs[]",
		"kubeadm.certificates/v1 .unwanted[]":             "Cluster .spec.endpoint.certSANs[]",
		"kubeadm.serve-settings/v1 .sans[]":               "Cluster .spec.endpoint.certSANs[]",
		"kubeadm.serve-settings/v1 .unwanted[]":           "Cluster .spec.endpoint.certSANs[]",
		"kubeadm.restart-proxy/v1 .change":                minted,
		"system.host-records/v1 .records[].address":       "Cluster .spec.hostSetup.hostRecords[].address",
		"system.host-records/v1 .records[].names[]":       "Cluster .spec.hostSetup.hostRecords[].names[]",
		"kubeadm.configure/v1 .token.name":                minted,
		"kubeadm.configure/v1 .token.key":                 constant,
		"kubeadm.configure/v1 .ca.name":                   minted,
		"kubeadm.configure/v1 .ca.key":                    constant,
		"kubeadm.dns/v1 .tag":                             ofBundle,
		"kubeadm.install-keys/v1 .secret":                 minted,
		"kubeadm.kubeconfigs/v1 .server":                  "Cluster .spec.endpoint.host",
		"kubeadm.manifests/v1 .version":                   "Cluster .spec.kubernetes.version",
		"kubeadm.manifests/v1 .etcdTag":                   ofBundle,
		"kubeadm.manifests/v1 .etcdDataDir":               "Cluster .spec.components.etcd.dataDir",
		"kubeadm.manifests/v1 .only":                      constant,
		"kubeadm.serve-version/v1 .version":               "Cluster .spec.kubernetes.version",
		"kubeadm.serve-version/v1 .etcdTag":               ofBundle,
		"etcd.snapshot/v1 .name":                          "Cluster .spec.kubernetes.version",
		"node.kubelet-version/v1 .version":                "Cluster .spec.kubernetes.version",
		"precheck.removed-apis/v1 .version":               "Cluster .spec.kubernetes.version",
		"precheck.skew/v1 .version":                       "Cluster .spec.kubernetes.version",
		"system.run-installed/v1 .unit":                   constant,
		"system.run-installed/v1 .program":                constant,
		"system.run-installed/v1 .after":                  constant,
		"kubeadm.proxy/v1 .version":                       "Cluster .spec.kubernetes.version",
		"kubeadm.upload-config/v1 .version":               "Cluster .spec.kubernetes.version",
		"etcd.healthy/v1 .before":                         constant,
		"etcd.remove-member/v1 .name":                     "Host .metadata.name",
		"etcd.remove-member/v1 .address":                  ofHost,
		"flannel.configure-node/v1 .backend":              "Cluster .spec.network.flannelBackend",
		"flannel.install/v1 .backend":                     "Cluster .spec.network.flannelBackend",
		"kubeadm.configure/v1 .etcd.members[]":            ofHost,
		"kubeadm.manifests/v1 .etcd.members[]":            ofHost,
		"kubeadm.join-token/v1 .token.name":               minted,
		"kubeadm.join-token/v1 .token.key":                constant,
		"kubevip.install/v1 .image":                       ofBundle,
		"kubevip.install/v1 .address":                     "Cluster .spec.endpoint.host",
		"node.endpoint-answers/v1 .address":               "Cluster .spec.endpoint.host",
		"node.cordon/v1 .node":                            "Host .metadata.name",
		"node.drain/v1 .node":                             "Host .metadata.name",
		"node.free-volumes/v1 .node":                      "Host .metadata.name",
		"node.labels/v1 .node":                            "Host .metadata.name",
		"node.labels/v1 .labels{key}":                     "Cluster .spec.workerPools[].labels{key}",
		"node.labels/v1 .labels{}":                        "Cluster .spec.workerPools[].labels{}",
		"node.labels/v1 .taints[]":                        "Cluster .spec.workerPools[].taints[].key",
		"node.labels/v1 .removeLabels[]":                  "Cluster .spec.workerPools[].labels{key}",
		"node.labels/v1 .removeTaints[]":                  "Cluster .spec.workerPools[].taints[].key",
		"node.remove/v1 .node":                            "Host .metadata.name",
		"node.uncordon/v1 .node":                          "Host .metadata.name",
		"precheck.look/v1 .free[]":                        "Cluster .spec.endpoint.host",
		"reset.network/v1 .endpoint":                      "Cluster .spec.endpoint.host",
		"reset.network/v1 .podCIDR":                       "Cluster .spec.network.podCIDR",
		"node.service-answers/v1 .address":                "Cluster .spec.network.serviceCIDR",
		"node.workloads/v1 .deployments[]":                constant,
		"node.workloads/v1 .daemonSets[]":                 constant,
		"precheck.look/v1 .cluster":                       minted,
		"precheck.look/v1 .absent[]":                      "Cluster .spec.runtime.dataDir",
		"precheck.look/v1 .names[]":                       "Cluster .spec.endpoint.host",
		"precheck.look/v1 .peers[]":                       ofHost,
		"precheck.look/v1 .ca":                            minted,
		"precheck.mark/v1 .cluster":                       minted,
		"precheck.mark/v1 .paths[]":                       "Cluster .spec.runtime.dataDir",
		"reset.files/v1 .paths[]":                         "Cluster .spec.runtime.dataDir",
		"system.kernel/v1 .modules[]":                     constant,
		"system.kernel/v1 .sysctls{key}":                  constant,
		"system.kernel/v1 .sysctls{}":                     constant,
		"system.kernel/v1 .remember[]":                    constant,
		"system.time-servers/v1 .servers[]":               "Setting .spec.ntp.servers[].address",
	}
	for _, of := range []string{"kubeadm.configure/v1", "kubeadm.proxy/v1", "kubeadm.upload-config/v1"} {
		settingStrings(all, of+" .settings")
	}
	for _, of := range []string{"kubeadm.manifests/v1", "kubeadm.serve-settings/v1"} {
		componentStrings(all, of+" .components")
	}
	return all
}

// componentStrings says it for the components of the control plane, and settingStrings for all settings, which several
// steps hold.
func componentStrings(all map[string]string, of string) {
	all[of+".nodePortRange"] = "Cluster .spec.network.nodePortRange"
	all[of+".audit.policy"] = "Cluster .spec.components.apiServer.audit.policy"
}

func settingStrings(all map[string]string, of string) {
	for path, origin := range map[string]string{
		".name": "Cluster .metadata.name", ".version": "Cluster .spec.kubernetes.version", ".endpoint": "Cluster .spec.endpoint.host",
		".podCIDR": "Cluster .spec.network.podCIDR", ".serviceCIDR": "Cluster .spec.network.serviceCIDR", ".dnsDomain": "Cluster .spec.kubernetes.dnsDomain",
		".certSANs[]": "Cluster .spec.endpoint.certSANs[]", ".etcdTag": ofBundle, ".etcdDataDir": "Cluster .spec.components.etcd.dataDir", ".dnsTag": ofBundle,
		".proxyMode": "Cluster .spec.network.kubeProxyMode",
		// Quantities are numbers, printed anew.
		".kubeReserved{key}": constant, ".kubeReserved{}": constant, ".systemReserved{key}": constant, ".systemReserved{}": constant,
	} {
		all[of+path] = origin
	}
	componentStrings(all, of+".components")
}

// targetStrings says it for what a plan holds of each host.
func targetStrings() map[string]string {
	return map[string]string{
		".name":         "Host .metadata.name",
		".address":      ofHost,
		".architecture": ofHost,
		".nic":          ofHost,
		".platform":     "Setting .spec.platform.address",
		".labels{key}":  "Cluster .spec.workerPools[].labels{key}",
		".labels{}":     "Cluster .spec.workerPools[].labels{}",
		".taints[]":     "Cluster .spec.workerPools[].taints[].key",
	}
}

// elsewhere lists the strings of these kinds that reach no host, with the reason.
func elsewhere() map[string]string {
	const login, kept = "how people log in to the platform", "the server itself keeps backups there"
	return map[string]string{
		"BackupLocation .spec.description":                     kept,
		"BackupLocation .spec.directory.path":                  kept,
		"BackupLocation .spec.s3.endpoint":                     kept,
		"BackupLocation .spec.s3.bucket":                       kept,
		"BackupLocation .spec.s3.prefix":                       kept,
		"BackupLocation .spec.s3.region":                       kept,
		"BackupLocation .spec.s3.addressStyle":                 kept,
		"BackupLocation .spec.s3.secretName":                   kept,
		"BackupLocation .spec.s3.caBundle":                     kept,
		"Operation .spec.parameters.backup":                    "it is looked up by name",
		"Operation .spec.parameters.lost[]":                    "it is only compared",
		"Setting .spec.approval.required[]":                    "an enumeration that is only compared",
		"Setting .spec.approval.unlessHarmless[]":              "an enumeration that is only compared",
		"Setting .spec.login.oidc.issuer":                      login,
		"Setting .spec.login.oidc.clientID":                    login,
		"Setting .spec.login.oidc.clientSecretName":            login,
		"Setting .spec.login.oidc.ca":                          login,
		"Setting .spec.login.oidc.usernameClaim":               login,
		"Setting .spec.login.oidc.groupsClaim":                 login,
		"Setting .spec.login.oidc.scopes[]":                    login,
		"Setting .spec.login.oidc.systemAdministratorGroups[]": login,
		"Setting .spec.login.oidc.auditorGroups[]":             login,
	}
}

// otherKinds lists the kinds whose strings reach no host, with the reason.
func otherKinds() map[string]string {
	return map[string]string{
		"Backup":          "its name alone reaches hosts, as that of a file; a step that takes a word of one has no origin here",
		"BackupSchedule":  "the server itself keeps backups; a step that takes a word of one has no origin here",
		"ClusterTemplate": "what it holds becomes the spec of a Cluster and is judged as such",
		"Bundle":          "the server writes it: people make the manifest, which TestBundle attacks",
		"Grant":           "its names are only compared",
		"HostClaim":       "the server writes it",
		"HostRun":         "the server writes it",
		"Project":         "its members get RBAC on the platform; its name is only compared",
		"User":            "it is who logs in to the platform",
	}
}

// doors lists the packages that can reach a host, with what they put in.
func doors() map[string]string {
	const step = "a step: its strings are in the inventory"
	return map[string]string{
		"internal/app":                       "wiring",
		"internal/cli/host":                  "a command line, which reaches the server only",
		"internal/cluster":                   "tunnels to ports of the control plane, whose addresses are parsed",
		"internal/controller/backuplocation": "nothing: it asks whether an error says that a host is busy",
		"internal/controller/bundle":         "nothing: it cuts text for a status",
		"internal/controller/cluster":        "nothing: it cuts text for a status",
		"internal/controller/host":           "logins (TestPeople, TestSecrets) and the constant question for facts",
		"internal/controller/operation":      "nothing: it gives sessions to the engine",
		"internal/host/backupdir":            "the path of a BackupLocation and the name of a Backup (people), as arguments; encrypted content, as input",
		"internal/host/fake":                 "hosts in memory",
		"internal/host/hosttest":             "tests",
		"internal/host/ssh":                  "what it is given (TestShell)",
		"internal/operation":                 "what steps give it, and the fence: the installation's own identity and a number",
		"internal/operation/operationtest":   "tests",
		"internal/impact":                    "nothing: it makes texts of clusters safe to show",
		"internal/plan/stages":               "nothing: it parses addresses",
		"internal/step/kubevip":              step,
		"internal/step":                      step,
		"internal/step/bundlefile":           step,
		"internal/step/containerd":           step,
		"internal/step/etcd":                 "ports of etcd through tunnels, whose addresses are parsed",
		"internal/step/flannel":              step,
		"internal/step/kubeadm":              step,
		"internal/step/kubelet":              step,
		"internal/step/node":                 step,
		"internal/step/precheck":             step,
		"internal/step/restore":              step,
		"internal/step/reset":                step,
		"internal/step/system":               step,
	}
}

// inventory is what there is: every place where a string can stand.
type inventory struct {
	steps    []step.Step
	target   reflect.Type
	specs    map[string]reflect.Type
	manifest reflect.Type
}

func currentInventory(t *testing.T) inventory {
	t.Helper()
	steps, err := app.Steps()
	if err != nil {
		t.Fatal(err)
	}
	i := inventory{target: reflect.TypeFor[step.Target](), manifest: reflect.TypeFor[bundle.Manifest](), specs: map[string]reflect.Type{}}
	for _, id := range steps.IDs() {
		s, err := steps.Decode(id, json.RawMessage("{}"))
		if err != nil {
			t.Fatal(err)
		}
		i.steps = append(i.steps, s)
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for kind, of := range scheme.KnownTypes(v1alpha1.GroupVersion()) {
		if spec, ok := of.FieldByName("Spec"); ok && strings.HasPrefix(of.PkgPath(), "slipway.dev/") {
			i.specs[kind] = spec.Type
		}
	}
	return i
}

// gaps says what the tables of these tests do not know.
func (i inventory) gaps() []string {
	var all []string
	gap := func(format string, values ...any) { all = append(all, fmt.Sprintf(format, values...)) }
	attacked := map[string]bool{}
	for _, p := range people() {
		attacked[p.kind+" "+p.path] = true
	}
	known := func(origin string) bool {
		return attacked[origin] || slices.Contains([]string{constant, minted, ofBundle, ofHost}, origin)
	}
	compare := func(what string, found []string, said map[string]string) {
		for _, path := range found {
			if origin, ok := said[path]; !ok {
				gap("%s has the string %s, of which the inventory does not say where it comes from", what, path)
			} else if !known(origin) {
				gap("%s %s comes from %q, which no test attacks", what, path, origin)
			}
		}
		for _, path := range slices.Sorted(maps.Keys(said)) {
			if !slices.Contains(found, path) {
				gap("the inventory names %s, which %s has not", path, what)
			}
		}
	}
	var found []string
	for _, s := range i.steps {
		found = append(found, stringPaths(reflect.TypeOf(s), string(s.ID())+" ")...)
	}
	compare("a step", found, stepStrings())
	compare("a target", stringPaths(i.target, ""), targetStrings())
	for _, kind := range slices.Sorted(maps.Keys(i.specs)) {
		if otherKinds()[kind] != "" {
			continue
		}
		for _, path := range stringPaths(i.specs[kind], ".spec") {
			// The wanted cluster of an Operation is a Cluster's spec, judged by the same schema.
			where := kind + " " + path
			if wanted, ok := strings.CutPrefix(path, ".spec.wanted."); ok {
				where = "Cluster .spec." + wanted
			}
			if !attacked[where] && elsewhere()[where] == "" {
				gap("people can write %s %s, which no test attacks", kind, path)
			}
		}
	}
	files := bundleStrings()
	for _, path := range stringPaths(i.manifest, "") {
		if _, ok := files[path]; !ok {
			gap("a bundle's manifest has the string %s, which no test attacks", path)
		}
	}
	return all
}

// TestInventory_EveryStringHasAnOrigin: a step, a kind or a bundle that gains a string fails until somebody says here
// where that string comes from, and so by which test it is attacked.
func TestInventory_EveryStringHasAnOrigin(t *testing.T) {
	i := currentInventory(t)
	for _, gap := range i.gaps() {
		t.Error(gap)
	}
	for kind := range otherKinds() {
		if i.specs[kind] == nil {
			t.Errorf("there is no kind %s", kind)
		}
	}
}

// novelStep is a step that nobody has heard of.
type novelStep struct {
	Motto string `json:"motto"`
}

func (novelStep) ID() step.ID                                            { return "test.novel/v1" }
func (novelStep) Check(context.Context, step.Reader) (step.Drift, error) { return step.Drift{}, nil }
func (novelStep) Apply(context.Context, step.Writer) error               { return nil }

// TestInventory_NoticesWhatIsNew: one more text of any type, in any of the places, is noticed, and nothing else is.
func TestInventory_NoticesWhatIsNew(t *testing.T) {
	text := reflect.TypeFor[string]()
	types := map[string]reflect.Type{
		"string": text, "pointer": reflect.PointerTo(text), "list": reflect.SliceOf(text), "bytes": reflect.TypeFor[[]byte](), "raw JSON": reflect.TypeFor[json.RawMessage](),
		"keys": reflect.TypeFor[map[string]int](), "values": reflect.TypeFor[map[int]string](), "anything": reflect.TypeFor[any](), "either": reflect.TypeFor[intstr.IntOrString](),
		"below": reflect.TypeFor[[]struct {
			Inner struct{ Deep v1alpha1.Verb }
		}](),
	}
	more := func(of, field reflect.Type) reflect.Type {
		fields := []reflect.StructField{{Name: "Novel", Type: field, Tag: `json:"novel"`}}
		for i := range of.NumField() {
			fields = append(fields, of.Field(i))
		}
		return reflect.StructOf(fields)
	}
	changes := map[string]func(i *inventory, field reflect.Type){
		"a target":        func(i *inventory, field reflect.Type) { i.target = more(i.target, field) },
		"a manifest":      func(i *inventory, field reflect.Type) { i.manifest = more(i.manifest, field) },
		"a kind":          func(i *inventory, field reflect.Type) { i.specs["Novel"] = more(reflect.TypeFor[struct{}](), field) },
		"a known kind":    func(i *inventory, field reflect.Type) { i.specs["Cluster"] = more(i.specs["Cluster"], field) },
		"another setting": func(i *inventory, field reflect.Type) { i.specs["Setting"] = more(i.specs["Setting"], field) },
	}
	for where, change := range changes {
		for name, field := range types {
			i := currentInventory(t)
			before := i.gaps()
			change(&i, field)
			if now := i.gaps(); len(now) <= len(before) || !strings.Contains(strings.Join(now, " "), "ovel") {
				t.Errorf("a new %s in %s is not noticed: %q", name, where, now)
			}
		}
	}
	i := currentInventory(t)
	before := len(i.gaps())
	i.steps = append(i.steps, novelStep{})
	if now := i.gaps(); len(now) != before+1 {
		t.Errorf("a new step is not noticed: %q", now)
	}
}

// TestInventory_EveryDoorIsKnown: a package that comes to know hosts fails until somebody says what it puts in.
func TestInventory_EveryDoorIsKnown(t *testing.T) {
	found, set := map[string]bool{}, token.NewFileSet()
	err := filepath.WalkDir("../../internal", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(set, path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			if to := strings.Trim(i.Path.Value, `"`); to == "slipway.dev/slipway/internal/host" || to == "slipway.dev/slipway/internal/host/ssh" {
				found[strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../../")] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range slices.Sorted(maps.Keys(found)) {
		if doors()[p] == "" {
			t.Errorf("package %s can reach hosts, and nothing says what it puts in", p)
		}
	}
	for p := range doors() {
		if !found[p] {
			t.Errorf("package %s does not know hosts any more", p)
		}
	}
}
