package app

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
)

// servedKind is a resource that the API serves, or a subresource.
type servedKind struct {
	metav1.APIResource
	// in is the group and version of its path; those of APIResource are of the object.
	in schema.GroupVersion
}

// parts gives the resource and the subresource.
func (k servedKind) parts() (string, string) {
	resource, sub, _ := strings.Cut(k.Name, "/")
	return resource, sub
}

// object is the kind of what is sent and read.
func (k servedKind) object() schema.GroupKind {
	if k.Group != "" {
		return schema.GroupKind{Group: k.Group, Kind: k.Kind}
	}
	return schema.GroupKind{Group: k.in.Group, Kind: k.Kind}
}

// served gives every resource that the API serves, subresources too: ours first, then Kubernetes' own, by name.
func (w *accessWorld) served(t *testing.T) []servedKind {
	t.Helper()
	_, lists, err := discovery.NewDiscoveryClientForConfigOrDie(w.config).ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	var all []servedKind
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			all = append(all, servedKind{r, gv})
		}
	}
	if len(all) < 40 {
		t.Fatalf("the API serves only %d resources: discovery is wrong", len(all))
	}
	slices.SortStableFunc(all, func(a, b servedKind) int {
		first := func(k servedKind) string {
			if k.in.Group == v1alpha1.Group {
				return " " + k.Name
			}
			return "!" + k.in.Group + " " + k.Name
		}
		return strings.Compare(first(a), first(b))
	})
	return all
}

// The places say where a kind is asked for: the usual place, all projects at once, and the namespace of the platform.
const (
	placeUsual  = ""
	placeAll    = "in all projects"
	placeSystem = "in " + v1alpha1.SystemNamespace
)

// kindRow is one verb of one kind in one place.
type kindRow struct {
	servedKind
	scope, verb string
}

func (r kindRow) label() string {
	label := r.Name
	if r.in.Group != v1alpha1.Group {
		label += "." + r.in.Group
	}
	return strings.TrimSpace(strings.TrimSuffix(label, ".") + " " + r.scope)
}

// kindRows gives the rows of a kind.
func kindRows(k servedKind) []kindRow {
	var rows []kindRow
	verbs := []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
	for _, scope := range []string{placeUsual, placeAll, placeSystem} {
		for _, verb := range verbs {
			if !slices.Contains(k.Verbs, verb) ||
				scope == placeAll && (!k.Namespaced || verb != "list" && verb != "watch") || scope == placeSystem && k.Name != "secrets" {
				continue
			}
			rows = append(rows, kindRow{k, scope, verb})
		}
	}
	return rows
}

// may says who may what. It is written from the rules of design.md and docs/security.md, and not from the roles: who
// changes a role on purpose changes this too.
func (r kindRow) may(column string) bool {
	resource, sub := r.parts()
	ours, reads := r.in.Group == v1alpha1.Group, slices.Contains([]string{"get", "list", "watch"}, r.verb)
	changes := slices.Contains([]string{"update", "patch"}, r.verb)
	switch {
	case strings.HasPrefix(resource, "selfsubject"):
		return true // Who am I, and what may I do.
	case column == asRoot:
		// Root's own way in. Not even that changes a Secret of the platform in its place, or takes a project's namespace away.
		return (r.scope != placeSystem || !changes) && (r.label() != "namespaces" || r.verb != "delete")
	case sub != "":
		return false // A status is the server's; so is every token of a service account.
	case resource == "secrets":
		return column == asSystem && r.scope == placeSystem && (r.verb == "create" || r.verb == "delete")
	}
	// What no person has any business with, beside the reviews of what others may.
	closed := []string{"leases", "apiservices", "flowschemas", "prioritylevelconfigurations"}
	// What only the server writes.
	records := []string{"hostclaims", "hostruns"}
	switch column {
	case asSystem:
		return reads && !slices.Contains(closed, resource) || ours && !slices.Contains(records, resource)
	case asAuditor:
		return reads && !slices.Contains(closed, resource)
	}
	// The members of a project, and those of another one.
	member := column != asStranger && r.scope == placeUsual
	switch {
	case ours && resource == "projects":
		// The list holds one's own alone.
		return r.verb == "list" || r.verb == "get" && member || changes && column == asOwner
	case resource == "namespaces":
		return r.verb == "get" && member
	case ours && slices.Contains([]string{"backups", "backupschedules", "clusters", "operations"}, resource):
		return member && (reads || column == asOwner)
	case ours && slices.Contains([]string{"grants", "hostruns"}, resource), resource == "events":
		return member && reads
	}
	return false
}

// question gives the request. Nothing that it would change is stored.
func (r kindRow) question(t *testing.T, p *accessPort, objects tableObjects) tableRequest {
	t.Helper()
	m := objects[r.object()]
	resource, sub := r.parts()
	// A subresource is asked of the object that it belongs to, which may be of another kind.
	there := m.there
	if sub != "" {
		for _, k := range p.kinds {
			if k.Name == resource && k.in == r.in {
				there = objects[k.object()].there
			}
		}
	}
	there, fresh := there.DeepCopy(), m.fresh.DeepCopy()
	if r.scope == placeSystem {
		there.SetNamespace(v1alpha1.SystemNamespace)
		there.SetName("host-cp1-fixture")
		fresh.SetNamespace(v1alpha1.SystemNamespace)
		fresh.Object["type"] = string(v1alpha1.SecretTypeCredential)
	}
	path := "/apis/" + r.in.String()
	if r.in.Group == "" {
		path = "/api/" + r.in.Version
	}
	if r.Namespaced && r.scope != placeAll {
		path += "/namespaces/" + there.GetNamespace()
	}
	path += "/" + resource
	one := path + "/" + there.GetName()
	if sub != "" {
		one += "/" + sub
	}
	const dry = "?dryRun=All"
	switch r.verb {
	case "get":
		return tableRequest{method: http.MethodGet, path: one}
	case "list":
		return tableRequest{method: http.MethodGet, path: path}
	case "watch":
		return tableRequest{method: http.MethodGet, path: path + "?watch=true", begins: true}
	case "create":
		if sub != "" {
			path = one
		}
		if !slices.Contains(r.Verbs, "get") {
			fresh.SetName("")
		}
		return tableRequest{method: http.MethodPost, path: path + dry, body: jsonOf(t, fresh)}
	case "update":
		if err := p.server.Get(t.Context(), client.ObjectKeyFromObject(there), there); err != nil {
			t.Fatal(err)
		}
		probeChange(there)
		return tableRequest{method: http.MethodPut, path: one + dry, body: jsonOf(t, there)}
	case "patch":
		body := &unstructured.Unstructured{Object: map[string]any{"kind": there.GetKind()}}
		probeChange(body)
		delete(body.Object, "kind")
		return tableRequest{method: http.MethodPatch, path: one + dry, contentType: "application/merge-patch+json", body: jsonOf(t, body)}
	case "delete":
		return tableRequest{method: http.MethodDelete, path: one + dry}
	case "deletecollection":
		return tableRequest{method: http.MethodDelete, path: path + dry + "&fieldSelector=metadata.name%3D" + there.GetName()}
	}
	t.Fatalf("%s can be asked to %s, and nobody wrote how", r.Name, r.verb)
	return tableRequest{}
}

// probeChange makes the change that the kind is there for: a label, or of a Project one more reader.
func probeChange(o *unstructured.Unstructured) {
	if o.GetKind() != "Project" {
		o.SetLabels(map[string]string{"fixture.example/probe": "x"})
		return
	}
	o.Object["spec"] = map[string]any{"displayName": "Development", "members": []any{
		map[string]any{"kind": "User", "name": paul, "role": "ProjectAdministrator"}, map[string]any{"kind": "User", "name": cleo, "role": "ClusterAdministrator"},
		map[string]any{"kind": "User", "name": rita, "role": "ReadOnly"}, map[string]any{"kind": "User", "name": "nina", "role": "ReadOnly"},
	}}
}

func jsonOf(t *testing.T, o *unstructured.Unstructured) string {
	t.Helper()
	content, err := json.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func (p *accessPort) kindsPart(t *testing.T, objects tableObjects) string {
	var kinds []kindRow
	for _, k := range p.kinds {
		if _, known := objects[k.object()]; known {
			kinds = append(kinds, kindRows(k)...)
		}
	}
	rows, questions := make([]*tableRow, len(kinds)), make([]tableRequest, len(kinds))
	for n, k := range kinds {
		questions[n] = k.question(t, p, objects)
		rows[n] = &tableRow{name: k.verb + " " + k.label(), want: func(column string) string {
			switch {
			case !slices.Contains(tableLoggedIn(), column):
				return "401"
			case k.may(column):
				return "yes"
			}
			return "no"
		}}
	}
	p.fill(t, rows, questions)
	checkRows(t, rows)
	rolesAreRows(t, kinds)
	t.Logf("%d verbs of kinds, %d requests", len(rows), len(rows)*len(tableColumns()))
	var b strings.Builder
	b.WriteString(kindsIntroduction + tableHead("kind | verbs"))
	for n := 0; n < len(rows); {
		verbs := []string{}
		from := n
		for ; n < len(rows) && kinds[n].label() == kinds[from].label() && rows[n].line("") == rows[from].line(""); n++ {
			verbs = append(verbs, kinds[n].verb)
		}
		b.WriteString(rows[from].line(kinds[from].label() + " | " + strings.Join(verbs, ", ")))
	}
	return b.String()
}

// rolesAreRows holds that no role speaks of a kind or verb that the table does not have.
func rolesAreRows(t *testing.T, kinds []kindRow) {
	t.Helper()
	known := map[string]bool{
		// Policies and the way into clusters ask for these; TestAccess and clusterproxy test what they do.
		"lend hosts": true, "lend bundles": true, "lend backuplocations": true, "lend clustertemplates": true, "administer projects": true, "administer clusters/proxy": true,
	}
	for _, k := range kinds {
		known[k.verb+" "+strings.TrimSuffix(k.Name+"."+k.in.Group, "."+v1alpha1.Group)] = true
	}
	for _, route := range (&door{people: &people{}}).routes() {
		known[route.Rule.String()] = true
	}
	for _, r := range access.Table() {
		for _, verbs := range r.Verbs {
			for _, verb := range verbs {
				resource := r.Resource
				if r.Group != v1alpha1.Group {
					resource += "." + r.Group
				}
				if !known[verb+" "+resource] {
					t.Errorf("a role lets somebody %s %s, which nothing serves", verb, resource)
				}
			}
		}
	}
}
