package app

import (
	"context"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
)

func called(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func user(name string, role v1alpha1.PlatformRole) *v1alpha1.User {
	return &v1alpha1.User{ObjectMeta: called(name), Spec: v1alpha1.UserSpec{PlatformRole: role}}
}

func testUsers(t *testing.T, w *accessWorld) {
	root, fromDirectory := user(v1alpha1.AdminUser, v1alpha1.SystemAdministrator), user("oidc-abc", "")
	fromDirectory.Spec.Directory = &v1alpha1.DirectoryIdentity{Issuer: "https://id.corp", Subject: "1", Username: "alice@corp"}
	bob := user("bob", "")
	w.create(t, bob, fromDirectory)
	const onlyAdmin = "only admin may change the User admin"
	w.try(t, map[string]attempt{
		"01 create admin":        {reason: "whoever made admin would choose its e-mail address", who: sam, do: creating(root), refused: onlyAdmin},
		"02 admin creates admin": {reason: "the admin token is root on the server", who: admin, do: creating(root)},
		"03 merge":               {reason: "another system administrator", who: sam, do: merge(root, `{"spec":{"displayName":"x"}}`), refused: onlyAdmin},
		"04 put":                 {reason: "another verb, same rule", who: sam, do: put(root, func(u *v1alpha1.User) { u.Spec.Email = "sam@corp" }), refused: onlyAdmin},
		"05 apply": {reason: "server-side apply is no way around", who: sam, refused: onlyAdmin,
			do: apply(`{apiVersion: slipway.dev/v1alpha1, kind: User, metadata: {name: admin}, spec: {platformRole: SystemAdministrator, email: sam@corp}}`)},
		"06 delete":              {reason: "it would end admin's sessions", who: sam, do: removing(root), refused: onlyAdmin},
		"07 admin changes admin": {reason: "it is admin's own", who: admin, do: merge(root, `{"spec":{"email":"root@corp"}}`)},
		"08 admin disables":      {reason: "the last way in must stay", who: admin, do: merge(root, `{"spec":{"disabled":true}}`), refused: "cannot be disabled"},
		"09 admin steps down":    {reason: "the last way in must stay", who: admin, do: merge(root, `{"spec":{"platformRole":null}}`), refused: "is a system administrator"},
		"10 admin deletes admin": {reason: "the last way in must stay", who: admin, do: removing(root), refused: "cannot be deleted"},
		"11 all users": {reason: "a collection is its members", who: sam, refused: onlyAdmin, do: func(ctx context.Context, c client.Client) error {
			return c.DeleteAllOf(ctx, &v1alpha1.User{}, client.MatchingFields{"metadata.name": "admin"})
		}},
		"12 create":            {reason: "system administrators manage people", who: sam, do: creating(user("eve", v1alpha1.Auditor))},
		"13 change":            {reason: "system administrators manage people", who: sam, do: merge(bob, `{"spec":{"disabled":true}}`)},
		"14 delete":            {reason: "system administrators manage people", who: sam, do: removing(user("eve", ""))},
		"15 forge directory":   {reason: "it would be somebody else's account", who: sam, do: creating(withName(fromDirectory, "oidc-def")), refused: "from the directory"},
		"16 forge by admin":    {reason: "not even admin can speak for the directory", who: admin, do: creating(withName(fromDirectory, "oidc-def")), refused: "from the directory"},
		"17 generated name":    {reason: "the name is made by the server", who: sam, do: creating(&v1alpha1.User{ObjectMeta: metav1.ObjectMeta{GenerateName: "oidc-"}, Spec: fromDirectory.Spec}), refused: "from the directory"},
		"18 disable directory": {reason: "a person who left", who: sam, do: merge(fromDirectory, `{"spec":{"disabled":true}}`)},
		"19 another identity":  {reason: "the account would be somebody else's", who: sam, do: merge(fromDirectory, `{"spec":{"directory":{"username":"ceo@corp"}}}`), refused: "cannot change"},
		"20 custom role":       {reason: "writing users is not being admin", who: custom, do: merge(root, `{"spec":{"displayName":"x"}}`), refused: onlyAdmin},
		"21 status":            {reason: "status is the server's", who: sam, do: statusMerge(bob, `{"status":{"identity":"admin"}}`), refused: rbacSays},
		"22 auditor":           {reason: "an auditor changes nothing", who: ada, do: merge(bob, `{"spec":{"disabled":false}}`), refused: rbacSays},
		"23 member":            {reason: "a project is not the platform", who: paul, do: creating(user("friend", "")), refused: rbacSays},
	})
}

func withName(u *v1alpha1.User, name string) *v1alpha1.User {
	u = u.DeepCopy()
	u.ObjectMeta = called(name)
	return u
}

func testProjects(t *testing.T, w *accessWorld) {
	dev, ops, standard := &v1alpha1.Project{ObjectMeta: called("dev")}, &v1alpha1.Project{ObjectMeta: called("ops")}, &v1alpha1.Project{ObjectMeta: called("default")}
	w.create(t, standard)
	members := func(change func([]v1alpha1.ProjectMember) []v1alpha1.ProjectMember) func(context.Context, client.Client) error {
		return put(dev, func(p *v1alpha1.Project) { p.Spec.Members = change(p.Spec.Members) })
	}
	add := func(name string, role v1alpha1.ProjectRole) func(context.Context, client.Client) error {
		return members(func(all []v1alpha1.ProjectMember) []v1alpha1.ProjectMember {
			return append(all, v1alpha1.ProjectMember{Name: name, Role: role})
		})
	}
	const readOnly, onlyMembers = "with the role ReadOnly only", "nothing but the members"
	w.try(t, map[string]attempt{
		"01 add reader":    {reason: "what project administrators are for", who: paul, do: add("nina", v1alpha1.ReadOnly)},
		"02 remove reader": {reason: "and back", who: paul, do: members(func(all []v1alpha1.ProjectMember) []v1alpha1.ProjectMember { return all[:3] })},
		"03 add peer":      {reason: "who may lend power is the platform's to say", who: paul, do: add("nina", v1alpha1.ProjectAdministrator), refused: readOnly},
		"04 add cluster":   {reason: "a cluster administrator is cluster-admin in every cluster", who: paul, do: add("nina", v1alpha1.ClusterAdministrator), refused: readOnly},
		"05 remove":        {reason: "taking away is changing", who: paul, do: members(func(all []v1alpha1.ProjectMember) []v1alpha1.ProjectMember { return all[:1] }), refused: readOnly},
		"06 promote": {reason: "an existing reader", who: paul, do: members(func(all []v1alpha1.ProjectMember) []v1alpha1.ProjectMember {
			all[2].Role = v1alpha1.ClusterAdministrator
			return all
		}), refused: readOnly},
		"07 rename":         {reason: "only members", who: paul, do: merge(dev, `{"spec":{"displayName":"Mine"}}`), refused: onlyMembers},
		"08 take away":      {reason: "only members", who: paul, do: merge(dev, `{"spec":{"displayName":null}}`), refused: onlyMembers},
		"09 add a field":    {reason: "only members", who: paul, do: merge(dev, `{"spec":{"description":"Mine"}}`), refused: onlyMembers},
		"10 label":          {reason: "labels choose what others act on", who: paul, do: merge(dev, `{"metadata":{"labels":{"tier":"gold"}}}`), refused: onlyMembers},
		"11 finalizer":      {reason: "the project could not be deleted", who: paul, do: merge(dev, `{"metadata":{"finalizers":["paul.example/stay"]}}`), refused: onlyMembers},
		"12 owner":          {reason: "the garbage collector would delete the project", who: paul, do: merge(dev, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Namespace","name":"none","uid":"0"}]}}`), refused: onlyMembers},
		"13 apply members":  {reason: "server-side apply is no way around", who: paul, refused: readOnly, do: apply(`{apiVersion: slipway.dev/v1alpha1, kind: Project, metadata: {name: dev}, spec: {members: [{name: paul, role: ProjectAdministrator}]}}`)},
		"14 status":         {reason: "status is the server's", who: paul, do: statusMerge(dev, `{"status":{"clusters":9}}`), refused: rbacSays},
		"15 other project":  {reason: "one project, not all", who: paul, do: merge(ops, `{"spec":{"members":[]}}`), refused: rbacSays},
		"16 delete own":     {reason: "the platform's to say", who: paul, do: removing(dev), refused: rbacSays},
		"17 member adds":    {reason: "only project administrators", who: cleo, do: add("nina", v1alpha1.ReadOnly), refused: rbacSays},
		"18 sam renames":    {reason: "system administrators administer projects", who: sam, do: merge(dev, `{"spec":{"displayName":"Dev"},"metadata":{"labels":{"tier":"gold"}}}`)},
		"19 sam adds":       {reason: "system administrators administer projects", who: sam, do: add("zoe", v1alpha1.ProjectAdministrator)},
		"20 default":        {reason: "new clusters go there", who: sam, do: removing(standard), refused: "default cannot be deleted"},
		"21 admin, default": {reason: "for everybody", who: admin, do: removing(standard), refused: "default cannot be deleted"},
		"22 sam creates":    {reason: "system administrators administer projects", who: sam, do: creating(&v1alpha1.Project{ObjectMeta: called("lab")})},
		"23 sam deletes":    {reason: "system administrators administer projects", who: sam, do: removing(&v1alpha1.Project{ObjectMeta: called("lab")})},
		"24 custom creates": {reason: "writing projects is not administering them", who: custom, do: creating(&v1alpha1.Project{ObjectMeta: called("mine")}), refused: "only a system administrator"},
		"25 custom deletes": {reason: "writing projects is not administering them", who: custom, do: removing(ops), refused: "only a system administrator"},
		"26 custom changes": {reason: "writing projects is not administering them", who: custom, do: merge(ops, `{"spec":{"members":[{"name":"carl","role":"ProjectAdministrator"}]}}`), refused: readOnly},
	})
}

// testNames: names that speak of the platform, or of Kubernetes itself, are for nobody to take or to lend power to.
func testNames(t *testing.T, w *accessWorld) {
	mine := &v1alpha1.Project{ObjectMeta: called("named"), Spec: v1alpha1.ProjectSpec{Members: []v1alpha1.ProjectMember{{Name: paul, Role: v1alpha1.ProjectAdministrator}}}}
	w.project(t, mine)
	w.until(t, paul, authorizationv1.ResourceAttributes{Verb: "update", Group: v1alpha1.Group, Resource: "projects", Name: mine.Name})
	add := func(kind v1alpha1.MemberKind, name string, role v1alpha1.ProjectRole) func(context.Context, client.Client) error {
		return put(mine, func(p *v1alpha1.Project) {
			p.Spec.Members = append(p.Spec.Members, v1alpha1.ProjectMember{Kind: kind, Name: name, Role: role})
		})
	}
	directory := func(name, identity string) *v1alpha1.User {
		u := user(name, "")
		u.Spec.Directory = &v1alpha1.DirectoryIdentity{Issuer: "https://id.corp", Subject: "1", Username: identity}
		return u
	}
	const ofPlatform, ofDirectory, badName, taken = "names that begin with system: or slipway:", "a group is one of the directory", "metadata.name", "belongs to the platform"
	w.try(t, map[string]attempt{
		"01 user system:":       {reason: "RBAC would take it for Kubernetes' own", who: sam, do: creating(user("system:admin", "")), refused: badName},
		"02 user slipway:":      {reason: "the platform's own names", who: admin, do: creating(user("slipway:x", "")), refused: badName},
		"03 directory says so":  {reason: "nobody speaks for the directory", who: admin, do: creating(directory("oidc-x", "system:masters")), refused: "from the directory"},
		"04 local, with a name": {reason: "a name of the directory in a local account", who: admin, do: creating(directory("plain", "system:masters")), refused: "oidc-"},
		"05 member system:":     {reason: "the API server's own name", who: sam, do: add(v1alpha1.MemberUser, "system:anonymous", v1alpha1.ReadOnly), refused: ofPlatform},
		"06 group system:":      {reason: "everybody who is logged in would be a member", who: sam, do: add(v1alpha1.MemberGroup, "system:authenticated", v1alpha1.ClusterAdministrator), refused: ofPlatform},
		"07 group slipway:":     {reason: "the platform's own group", who: sam, do: add(v1alpha1.MemberGroup, "slipway:auditors", v1alpha1.ReadOnly), refused: ofPlatform},
		"08 group of ours":      {reason: "a group without prefix could be anybody's", who: sam, do: add(v1alpha1.MemberGroup, "admins", v1alpha1.ReadOnly), refused: ofDirectory},
		"09 by a project's own": {reason: "the same for who may add readers", who: paul, do: add(v1alpha1.MemberGroup, "system:unauthenticated", v1alpha1.ReadOnly), refused: ofPlatform},
		"10 by admin":           {reason: "the same for everybody", who: admin, do: add(v1alpha1.MemberUser, "system:apiserver", v1alpha1.ReadOnly), refused: ofPlatform},
		"11 project of ours":    {reason: "it holds every secret", who: admin, do: creating(&v1alpha1.Project{ObjectMeta: called("slipway-system")}), refused: taken},
		"12 project kube-":      {reason: "Kubernetes' own namespaces", who: sam, do: creating(&v1alpha1.Project{ObjectMeta: called("kube-system")}), refused: taken},
		"13 an ordinary member": {reason: "what all this is not about", who: paul, do: add(v1alpha1.MemberGroup, "oidc:system:masters", v1alpha1.ReadOnly)},
		"14 role slipway:":      {reason: "the server would take it for its own", who: custom, do: creating(&rbacv1.ClusterRole{ObjectMeta: called("slipway:auditor:more")}), refused: "kept by the server"},
	})
}

func testGrants(t *testing.T, w *accessWorld) {
	grant := func(name string, kind v1alpha1.GrantKind, lends string) *v1alpha1.Grant {
		return &v1alpha1.Grant{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: name}, Spec: v1alpha1.GrantSpec{Kind: kind, Name: lends}}
	}
	host := grant("cp9", v1alpha1.GrantHost, "cp9")
	const onlyLender = "only who may lend"
	w.try(t, map[string]attempt{
		"01 sam lends a host":    {reason: "system administrators lend", who: sam, do: creating(host)},
		"02 sam lends all":       {reason: "system administrators lend", who: sam, do: creating(grant("all", v1alpha1.GrantBundle, v1alpha1.GrantEverything))},
		"03 another host":        {reason: "may lend cp1 only", who: custom, do: creating(grant("x", v1alpha1.GrantHost, "cp2")), refused: onlyLender},
		"04 all hosts":           {reason: "one host is not all", who: custom, do: creating(grant("x", v1alpha1.GrantHost, v1alpha1.GrantEverything)), refused: onlyLender},
		"05 bundle of that name": {reason: "a host is not a bundle", who: custom, do: creating(grant("x", v1alpha1.GrantBundle, "cp1")), refused: onlyLender},
		"06 own host":            {reason: "may lend cp1", who: custom, do: creating(grant("cp1", v1alpha1.GrantHost, "cp1"))},
		"07 end another's":       {reason: "ending a loan is the lender's", who: custom, do: removing(host), refused: onlyLender},
		"08 end own":             {reason: "may lend cp1", who: custom, do: removing(grant("cp1", "", ""))},
		"09 change":              {reason: "another loan is another grant", who: sam, do: merge(host, `{"spec":{"name":"cp2"}}`), refused: "cannot change"},
		"10 member":              {reason: "members use what is lent", who: paul, do: creating(grant("x", v1alpha1.GrantHost, "cp1")), refused: rbacSays},
		"11 member ends":         {reason: "members use what is lent", who: paul, do: removing(host), refused: rbacSays},
		"12 sam ends":            {reason: "system administrators lend", who: sam, do: removing(host)},
	})
}

func testReferences(t *testing.T, w *accessWorld) {
	credential := func(secret string) *v1alpha1.Credential {
		return &v1alpha1.Credential{ObjectMeta: called("c-" + secret), Spec: v1alpha1.CredentialSpec{User: "root", Type: v1alpha1.CredentialPassword, SecretName: secret}}
	}
	login := func(secret string) *v1alpha1.Setting {
		return &v1alpha1.Setting{ObjectMeta: called(v1alpha1.SettingLogin), Spec: v1alpha1.SettingSpec{Login: &v1alpha1.LoginSetting{
			OIDC: &v1alpha1.OIDCSetting{Issuer: "https://id.corp", ClientID: "slipway", ClientSecretName: secret},
		}}}
	}
	ntp := &v1alpha1.Setting{ObjectMeta: called(v1alpha1.SettingNTP), Spec: v1alpha1.SettingSpec{NTP: &v1alpha1.NTPSetting{}}}
	const own = "the platform's own"
	attempts := map[string]attempt{
		"1 own secret":    {reason: "what credentials are for", who: sam, do: creating(credential("host-cp1-x7"))},
		"2 by admin":      {reason: "for everybody", who: admin, do: creating(credential("token-x")), refused: own},
		"3 changed later": {reason: "an update is no way around", who: sam, do: merge(credential("host-cp1-x7"), `{"spec":{"secretName":"session-1"}}`), refused: own},
		"4 login":         {reason: "the provider would be shown it", who: sam, do: creating(login("password-admin")), refused: own},
		"5 login, own":    {reason: "what the setting is for", who: sam, do: creating(login("oidc-client"))},
		"6 other setting": {reason: "a setting that names no secret", who: sam, do: creating(ntp)},
	}
	for _, secret := range []string{"setup", "cluster-demo", "password-admin", "session-1", "token-1"} {
		attempts[secret] = attempt{reason: "a host of sam's would be shown it as the password", who: sam, do: creating(credential(secret)), refused: own}
	}
	w.try(t, attempts)
}

func testPlatform(t *testing.T, w *accessWorld) {
	inDev := metav1.ObjectMeta{Namespace: "dev", Name: access.RoleReadOnly}
	binding := &rbacv1.RoleBinding{ObjectMeta: inDev}
	role := func(name string, labels map[string]string) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	}
	namespace := func(name string, labels map[string]string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	}
	ofDev := map[string]string{v1alpha1.LabelProject: "dev"}
	const kept = "kept by the server"
	w.try(t, map[string]attempt{
		"01 delete namespace":    {reason: "the clusters would be forgotten", who: custom, do: removing(namespace("dev", nil)), refused: kept},
		"02 unlabel namespace":   {reason: "then it could be deleted", who: custom, do: merge(namespace("dev", nil), `{"metadata":{"labels":{"slipway.dev/project":null}}}`), refused: kept},
		"03 claim a namespace":   {reason: "the controller would take it for the project's", who: custom, do: creating(namespace("trap", ofDev)), refused: kept},
		"04 system namespace":    {reason: "it holds every secret", who: custom, do: removing(namespace(v1alpha1.SystemNamespace, nil)), refused: kept},
		"05 own namespace":       {reason: "what is not ours is not ours to forbid", who: custom, do: creating(namespace("own", nil))},
		"06 own namespace":       {reason: "what is not ours is not ours to forbid", who: custom, do: merge(namespace("own", nil), `{"metadata":{"labels":{"a":"b"}}}`)},
		"07 widen role":          {reason: "everybody with the role would get it", who: custom, do: merge(role(access.RoleReadOnly, nil), `{"rules":[]}`), refused: kept},
		"08 widen binding":       {reason: "membership is said in the Project", who: custom, do: merge(binding, `{"subjects":[]}`), refused: kept},
		"09 delete binding":      {reason: "membership is said in the Project", who: custom, do: removing(binding), refused: kept},
		"10 claim a name":        {reason: "the next version may have a role of that name", who: custom, do: creating(role("slipway:mine", nil)), refused: kept},
		"11 label a role":        {reason: "the server removes roles by label", who: custom, do: creating(role("mine", ofDev)), refused: kept},
		"12 own role":            {reason: "what is not ours is not ours to forbid", who: custom, do: creating(role("mine", nil))},
		"13 own role":            {reason: "what is not ours is not ours to forbid", who: custom, do: removing(role("mine", nil))},
		"14 system namespace":    {reason: "sam manages projects, not namespaces", who: sam, do: removing(namespace("dev", nil)), refused: rbacSays},
		"15 bind":                {reason: "no role of ours lets anyone write roles", who: sam, do: creating(role("mine", nil)), refused: rbacSays},
		"16 admin label":         {reason: "the admin token is root on the server", who: admin, do: merge(namespace("ops", nil), `{"metadata":{"labels":{"a":"b"}}}`)},
		"17 sam, policies":       {reason: "policies are protected by roles alone", who: sam, do: apply(`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: slipway-users}, spec: {failurePolicy: Ignore}}`), refused: rbacSays},
		"18 custom, policies":    {reason: "policies are protected by roles alone", who: custom, do: apply(`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {name: slipway-users}, spec: {validationActions: [Audit]}}`), refused: rbacSays},
		"19 sam, custom objects": {reason: "a kind's rules are in its definition", who: sam, do: apply(`{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: users.slipway.dev}, spec: {}}`), refused: rbacSays},
	})
}
