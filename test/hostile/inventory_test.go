package hostile

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/app"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/step"
)

// strings gives the path of every string below a type, as it is named in JSON.
func stringPaths(t reflect.Type, path string) []string {
	switch t {
	case reflect.TypeFor[resource.Quantity](), reflect.TypeFor[metav1.Time]():
		return nil // They are numbers, however written.
	}
	switch t.Kind() {
	case reflect.String:
		return []string{path}
	case reflect.Pointer:
		return stringPaths(t.Elem(), path)
	case reflect.Slice, reflect.Array:
		return stringPaths(t.Elem(), path+"[]")
	case reflect.Map:
		return append(stringPaths(t.Key(), path+"{key}"), stringPaths(t.Elem(), path+"{}")...)
	case reflect.Interface:
		return []string{path} // Nobody knows what it holds.
	case reflect.Struct:
		var all []string
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
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
	const settings = "kubeadm.configure/v1 .settings"
	return map[string]string{
		"bundlefile.install/v1 .files[].path":             constant,
		"bundlefile.install/v1 .files[].digest":           ofBundle,
		"bundlefile.install/v1 .files[].architecture":     ofBundle,
		"bundlefile.install/v1 .output":                   constant,
		"containerd.configure/v1 .dataDir":                "Cluster .spec.runtime.dataDir",
		"containerd.configure/v1 .pauseImage":             ofBundle,
		"containerd.configure/v1 .ca":                     minted,
		"containerd.configure/v1 .token.name":             minted,
		"containerd.configure/v1 .token.key":              constant,
		"containerd.pin-images/v1 .images[].name":         ofBundle,
		"containerd.pin-images/v1 .images[].digest":       ofBundle,
		"containerd.pin-images/v1 .images[].architecture": ofBundle,
		"flannel.install/v1 .image":                       ofBundle,
		"flannel.install/v1 .podCIDR":                     "Cluster .spec.network.podCIDR",
		"flannel.install/v1 .apiHost":                     "Cluster .spec.endpoint.host",
		"flannel.install/v1 .apiPort":                     constant,
		"kubeadm.allow-join/v1 .token.name":               minted,
		"kubeadm.allow-join/v1 .token.key":                constant,
		"kubeadm.certificates/v1 .sans[]":                 "Cluster .spec.endpoint.certSANs[]",
		settings + ".name":                                "Cluster .metadata.name",
		settings + ".version":                             "Cluster .spec.kubernetes.version",
		settings + ".endpoint":                            "Cluster .spec.endpoint.host",
		settings + ".podCIDR":                             "Cluster .spec.network.podCIDR",
		settings + ".serviceCIDR":                         "Cluster .spec.network.serviceCIDR",
		settings + ".dnsDomain":                           "Cluster .spec.kubernetes.dnsDomain",
		settings + ".certSANs[]":                          "Cluster .spec.endpoint.certSANs[]",
		settings + ".etcdTag":                             ofBundle,
		settings + ".etcdDataDir":                         "Cluster .spec.components.etcd.dataDir",
		settings + ".dnsTag":                              ofBundle,
		settings + ".proxyMode":                           "Cluster .spec.network.kubeProxyMode",
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
		"kubeadm.proxy/v1 .version":                       "Cluster .spec.kubernetes.version",
		"kubeadm.upload-config/v1 .version":               "Cluster .spec.kubernetes.version",
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
}

// targetStrings says it for what a plan holds of each host.
func targetStrings() map[string]string {
	return map[string]string{
		".name":         "Host .metadata.name",
		".address":      ofHost,
		".architecture": ofHost,
		".platform":     "Setting .spec.platform.address",
		".labels{key}":  "Cluster .spec.workerPools[].labels{key}",
		".labels{}":     "Cluster .spec.workerPools[].labels{}",
		".taints[]":     "Cluster .spec.workerPools[].taints[].key",
	}
}

// elsewhere lists the strings of these kinds that reach no host, with the reason.
func elsewhere() map[string]string {
	const login = "how people log in to the platform"
	return map[string]string{
		"Setting .spec.approval.required[]":                    "an enumeration that is only compared",
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

// TestInventory_EveryStringHasAnOrigin: a step, a kind or a bundle that gains a string fails until somebody says here
// where that string comes from, and so by which test it is attacked.
func TestInventory_EveryStringHasAnOrigin(t *testing.T) {
	attacked := map[string]bool{}
	for _, p := range people() {
		attacked[p.kind+" "+p.path] = true
	}
	known := func(origin string) bool {
		return attacked[origin] || slices.Contains([]string{constant, minted, ofBundle, ofHost}, origin)
	}
	compare := func(what string, found []string, said map[string]string) {
		t.Helper()
		for _, path := range found {
			if origin, ok := said[path]; !ok {
				t.Errorf("%s has the string %s, of which the inventory does not say where it comes from", what, path)
			} else if !known(origin) {
				t.Errorf("%s %s comes from %q, which no test attacks", what, path, origin)
			}
		}
		for _, path := range slices.Sorted(maps.Keys(said)) {
			if !slices.Contains(found, path) {
				t.Errorf("the inventory names %s, which %s has not", path, what)
			}
		}
	}
	steps, err := app.Steps()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, id := range steps.IDs() {
		s, err := steps.Decode(id, json.RawMessage("{}"))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, stringPaths(reflect.TypeOf(s), string(id)+" ")...)
	}
	compare("a step", found, stepStrings())
	compare("a target", stringPaths(reflect.TypeFor[step.Target](), ""), targetStrings())

	for kind, spec := range map[string]reflect.Type{
		"Cluster": reflect.TypeFor[v1alpha1.ClusterSpec](), "Host": reflect.TypeFor[v1alpha1.HostSpec](), "Credential": reflect.TypeFor[v1alpha1.CredentialSpec](),
		"Setting": reflect.TypeFor[v1alpha1.SettingSpec](), "Operation": reflect.TypeFor[v1alpha1.OperationSpec](),
	} {
		for _, path := range stringPaths(spec, ".spec") {
			// The wanted cluster of an Operation is a Cluster's spec, judged by the same schema.
			where := kind + " " + strings.Replace(path, ".spec.wanted.", ".spec.", 1)
			if strings.HasPrefix(path, ".spec.wanted.") {
				where = "Cluster " + strings.TrimPrefix(where, "Operation ")
			}
			if !attacked[where] && elsewhere()[where] == "" {
				t.Errorf("people can write %s %s, which no test attacks", kind, path)
			}
		}
	}
	var files []string
	for path := range bundleStrings() {
		files = append(files, path)
	}
	for _, path := range stringPaths(reflect.TypeFor[bundle.Manifest](), "") {
		if !slices.Contains(files, path) {
			t.Errorf("a bundle's manifest has the string %s, which no test attacks", path)
		}
	}
}
