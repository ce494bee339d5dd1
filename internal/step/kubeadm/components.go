package kubeadm

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"slipway.dev/slipway/internal/host"
)

// Components is what a cluster's spec says of the control plane's components beyond what kubeadm decides itself. The zero
// value leaves all of it to Kubernetes.
type Components struct {
	// LogLevel is that of the API server, the controller manager and the scheduler.
	LogLevel int32 `json:"logLevel,omitempty"`
	// NodePortRange is FROM-TO; "" leaves it to Kubernetes.
	NodePortRange string `json:"nodePortRange,omitempty"`
	// Audit is the API server's log of requests; nil means none.
	Audit *Audit `json:"audit,omitempty"`
}

// Audit is what API servers log of requests.
type Audit struct {
	// Policy is a Policy of audit.k8s.io in YAML.
	Policy string `json:"policy"`
	// MaxAge is in days, MaxSize in megabytes; MaxBackup counts files.
	MaxAge    int32 `json:"maxAge"`
	MaxSize   int32 `json:"maxSize"`
	MaxBackup int32 `json:"maxBackup"`
}

// Where the audit log and its policy are on a control plane.
const (
	auditDir = Directory + "/audit"
	// AuditLogDir holds the log.
	AuditLogDir = "/var/log/kubernetes/audit"
	auditLog    = AuditLogDir + "/audit.log"
)

// DefaultAuditPolicy logs who did what to which object, without contents: what Secrets hold never gets into the log. What
// components ask all the time is left out.
const DefaultAuditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages:
- RequestReceived
rules:
- level: None
  nonResourceURLs:
  - /livez*
  - /readyz*
  - /healthz*
  - /version
  - /openapi/*
- level: None
  resources:
  - group: coordination.k8s.io
    resources:
    - leases
- level: None
  userGroups:
  - system:nodes
  verbs:
  - get
  - list
  - watch
- level: None
  users:
  - system:apiserver
  - system:kube-controller-manager
  - system:kube-scheduler
  - system:kube-proxy
  verbs:
  - get
  - list
  - watch
- level: Metadata
`

// policyPath is named by the policy's content: the API server reads its policy only when it starts, and another path makes
// the kubelet start it anew.
func (a Audit) policyPath() string {
	sum := sha256.Sum256([]byte(a.Policy))
	return auditDir + "/policy-" + hex.EncodeToString(sum[:6]) + ".yaml"
}

func (a Audit) policyFile() host.File { return host.File{Content: []byte(a.Policy), Mode: 0o600} }

// argument is one flag of a component, as kubeadm's configuration has it.
type argument struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// volume is what kubeadm mounts into a component.
type volume struct {
	Name      string `json:"name"`
	HostPath  string `json:"hostPath"`
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readOnly,omitempty"`
	PathType  string `json:"pathType,omitempty"`
}

// The static pods that have flags of ours.
const (
	apiServer         = "kube-apiserver"
	controllerManager = "kube-controller-manager"
	scheduler         = "kube-scheduler"
)

func staticPods() []string { return []string{apiServer, controllerManager, scheduler} }

// ourFlags are those that a component has from nobody but us.
func ourFlags(component string) []string {
	if component == apiServer {
		return []string{"service-node-port-range", "audit-policy-file", "audit-log-path", "audit-log-maxage", "audit-log-maxsize", "audit-log-maxbackup", "v"}
	}
	return []string{"v"}
}

// arguments gives the flags of a component that are not left to Kubernetes.
func (c Components) arguments(component string) []argument {
	var all []argument
	if component == apiServer {
		if c.NodePortRange != "" {
			all = append(all, argument{"service-node-port-range", c.NodePortRange})
		}
		if a := c.Audit; a != nil {
			all = append(all,
				argument{"audit-policy-file", a.policyPath()}, argument{"audit-log-path", auditLog}, argument{"audit-log-maxage", number(a.MaxAge)},
				argument{"audit-log-maxsize", number(a.MaxSize)}, argument{"audit-log-maxbackup", number(a.MaxBackup)})
		}
	}
	if c.LogLevel > 0 {
		all = append(all, argument{"v", number(c.LogLevel)})
	}
	return all
}

func number(n int32) string { return strconv.Itoa(int(n)) }

func (c Components) volumes() []volume {
	if c.Audit == nil {
		return nil
	}
	return []volume{
		{Name: "audit-policy", HostPath: auditDir, MountPath: auditDir, ReadOnly: true, PathType: "Directory"},
		{Name: "audit-log", HostPath: AuditLogDir, MountPath: AuditLogDir, PathType: "DirectoryOrCreate"},
	}
}

// configuration adds to kubeadm's ClusterConfiguration what differs from its defaults.
func (c Components) configuration(cluster map[string]any) {
	section := func(name, component string) {
		if all := c.arguments(component); len(all) > 0 {
			part, _ := cluster[name].(map[string]any)
			if part == nil {
				part = map[string]any{}
			}
			part["extraArgs"] = all
			cluster[name] = part
		}
	}
	section("apiServer", apiServer)
	section("controllerManager", controllerManager)
	section("scheduler", scheduler)
	if all := c.volumes(); len(all) > 0 {
		cluster["apiServer"].(map[string]any)["extraVolumes"] = all
	}
}

// differences says which flags of ours a component has and which it should have, both "" when they are the same. Lines holds
// its command, one flag a line or an element.
func (c Components) differences(component string, lines []string) (is, should string) {
	want := map[string]string{}
	for _, a := range c.arguments(component) {
		want[a.Name] = "--" + a.Name + "=" + a.Value
	}
	have := map[string]string{}
	for _, l := range lines {
		flag := strings.TrimPrefix(strings.TrimSpace(l), "- ")
		name, _, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		if strings.HasPrefix(flag, "--") && slices.Contains(ourFlags(component), name) {
			have[name] = flag
		}
	}
	var haves, wants []string
	for _, name := range ourFlags(component) {
		if have[name] != want[name] {
			haves, wants = append(haves, cmp.Or(have[name], "no --"+name)), append(wants, cmp.Or(want[name], "no --"+name))
		}
	}
	return strings.Join(haves, " "), strings.Join(wants, " ")
}

// Differ says which components start otherwise with other settings.
func (c Components) Differ(other Components) (apiServers, controllerManagers, schedulers bool) {
	differ := func(component string) bool { return !slices.Equal(c.arguments(component), other.arguments(component)) }
	return differ(apiServer), differ(controllerManager), differ(scheduler)
}
