package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

const opName = "demo-create-1"

func at(seconds int) *metav1.Time {
	return new(metav1.NewTime(outputtest.Now().Add(time.Duration(seconds) * time.Second)))
}

// operation gives one that the cluster of the tests brought about; only the one to delete has a UID.
func operation(verb v1alpha1.Verb) *v1alpha1.Operation {
	op := &v1alpha1.Operation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo-" + string(verb) + "-1", Labels: map[string]string{v1alpha1.LabelCluster: "demo"}},
		Spec:       v1alpha1.OperationSpec{Verb: verb, Cluster: "demo"},
	}
	if verb == v1alpha1.VerbDelete {
		op.Labels[v1alpha1.LabelClusterUID] = "u1"
	}
	return op
}

func view() output.PlanView {
	return output.PlanView{
		Plan: &plan.Plan{Format: plan.Format, Verb: v1alpha1.VerbCreate, Cluster: "demo", Summary: "create cluster demo: 1 control plane, 1 worker",
			Hosts: []step.Target{{Name: "cp1", Address: "10.0.0.10", ControlPlane: true}, {Name: "w1", Address: "10.0.0.11"}},
			Stages: []plan.Stage{
				{Name: "precheck", Title: "Check the hosts", Hosts: []string{"cp1", "w1"}, Calls: []plan.Call{{Name: "look"}}},
				{Name: "join", Title: "Join the workers", Hosts: []string{"w1"}, Calls: []plan.Call{{Name: "runtime"}, {Name: "join"}}},
			}},
		Preview: []output.Preview{
			{Host: "cp1", Step: "look", State: output.PreviewClean}, {Host: "w1", Step: "look", State: output.PreviewClean},
			{Host: "w1", Step: "runtime", State: output.PreviewDrift, Drift: step.Drift{{What: "/usr/local/bin/containerd", Want: "v2.3.2"}, {What: "net.ipv4.ip_forward", Have: "0", Want: "1"}}},
			{Host: "w1", Step: "join", State: output.PreviewAfter, After: "init on cp1"},
		},
	}
}

func servePlan(t *testing.T, b *outputtest.Bench, name string, v output.PlanView) {
	t.Helper()
	b.Mux.HandleFunc("GET /slipway/v1/projects/default/operations/"+name+"/plan", func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	})
}

// script lets the server take its next turn whenever the text of that turn is on the screen.
type turn struct {
	when string
	then func(s *v1alpha1.OperationStatus)
}

func play(t *testing.T, b *outputtest.Bench, name string, turns ...turn) {
	b.Out.React = func(text string) {
		if len(turns) == 0 || !strings.Contains(text, turns[0].when) {
			return
		}
		next := turns[0]
		turns = turns[1:]
		var op v1alpha1.Operation
		if err := b.Client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: name}, &op); err != nil {
			t.Error(err)
			return
		}
		next.then(&op.Status)
		if err := b.Client.Status().Update(t.Context(), &op); err != nil {
			t.Error(err)
		}
	}
}

func running(s *v1alpha1.OperationStatus) {
	s.Phase, s.StartedAt = v1alpha1.OperationRunning, at(0)
	s.Plan = &v1alpha1.PlanReference{Hash: "sha256:1", Summary: "create cluster demo: 1 control plane, 1 worker"}
	s.Stages = []v1alpha1.StageProgress{{Name: "precheck", Steps: 2, StartedAt: at(0)}, {Name: "join", Steps: 2}}
}

func joining(s *v1alpha1.OperationStatus) {
	s.Stages[0].Done, s.Stages[0].FinishedAt, s.Stages[1].StartedAt = 2, at(3), at(3)
}

func ends(phase v1alpha1.OperationPhase, done int32, failures ...v1alpha1.Failure) func(s *v1alpha1.OperationStatus) {
	return func(s *v1alpha1.OperationStatus) {
		s.Phase, s.FinishedAt, s.Failures = phase, at(54), failures
		s.Progress = v1alpha1.Progress{Steps: 4, Done: 2 + done, Summary: fmt.Sprintf("%d/4", 2+done)}
		s.Stages[1].Done, s.Stages[1].FinishedAt = done, at(54)
	}
}

func TestCreate(t *testing.T) {
	failure := v1alpha1.Failure{Host: "w1", Step: "join", Reason: "TimedOut", Message: "cannot join host w1: kubelet did not become ready in 2m", Fix: "look at the kubelet's journal"}
	precheck := v1alpha1.Failure{Host: "w1", Step: "look", Reason: output.ReasonPrecheck, Message: "host w1: memory: found 1.0Gi, needs 2.0Gi", Fix: "mend what is named"}
	cases := map[string]struct {
		reason    string
		end       func(s *v1alpha1.OperationStatus)
		interrupt bool
		want      output.ExitCode
	}{
		"succeeds":    {reason: "the times of the stages and how to use it", end: ends(v1alpha1.OperationSucceeded, 2), want: output.ExitOK},
		"fails":       {reason: "host, step, message, fix, and how to go on", end: ends(v1alpha1.OperationFailed, 1, failure), want: output.ExitOperationFailed},
		"precheck":    {reason: "a precheck's refusal changed nothing", end: ends(v1alpha1.OperationFailed, 0, precheck), want: output.ExitRefused},
		"partial":     {reason: "hosts left out are named", end: ends(v1alpha1.OperationPartial, 1, failure), want: output.ExitPartial},
		"interrupted": {reason: "Ctrl-C leaves the operation running and says so", interrupt: true, end: func(*v1alpha1.OperationStatus) {}, want: output.ExitInterrupted},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			b := outputtest.New(t, outputtest.Hooks{Created: func(ctx context.Context, server client.Client, object client.Object) {
				if err := server.Create(ctx, operation(v1alpha1.VerbCreate)); err != nil {
					t.Error(err)
				}
			}})
			servePlan(t, b, opName, view())
			play(t, b, opName, turn{"operation demo-create-1", running}, turn{"Check the hosts: started", joining},
				turn{"Join the workers: started", func(s *v1alpha1.OperationStatus) {
					if tc.interrupt {
						interrupt()
					}
					tc.end(s)
				}})
			got := b.Run(ctx, New(b.Deps), "create", "demo", "--kubernetes", "v1.36.3", "--control-plane", "cp1", "--worker", "w1")
			if got != tc.want {
				t.Errorf("%s: exit code %d, want %d", tc.reason, got, tc.want)
			}
			outputtest.Golden(t, "create-"+name, b.Everything())
		})
	}
}

func TestSpec(t *testing.T) {
	path := filepath.Join(t.TempDir(), "demo.yaml")
	content := "apiVersion: slipway.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: demo\nspec:\n  kubernetes: {version: v1.36.3}\n  controlPlane: {hosts: [cp1]}\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte(content+"  colour: red\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := []string{"--kubernetes", "v1.36.3", "--control-plane", "cp1"}
	plain := func(change func(s *v1alpha1.ClusterSpec)) *v1alpha1.ClusterSpec {
		s := &v1alpha1.ClusterSpec{Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.36.3"}, ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{"cp1"}}}
		change(s)
		return s
	}
	cases := map[string]struct {
		reason string
		args   []string
		want   *v1alpha1.ClusterSpec
		code   output.ExitCode
	}{
		"File": {reason: "a file is enough", args: []string{"-f", path}, want: plain(func(*v1alpha1.ClusterSpec) {})},
		"FileAndFlags": {reason: "flags win over the file", args: []string{"-f", path, "--worker", "w1,w2", "--disable-swap"}, want: plain(func(s *v1alpha1.ClusterSpec) {
			s.WorkerPools = []v1alpha1.WorkerPool{{Name: "workers", Hosts: []string{"w1", "w2"}}}
			s.HostSetup.DisableSwap = true
		})},
		"All": {reason: "every flag has its field", args: append(base, "--pool", "gpu=g1,g2", "--label", "gpu:accelerator=x", "--taint", "gpu:gpu=yes:NoSchedule",
			"--taint", "gpu:slow:NoExecute", "--pod-cidr", "10.1.0.0/16", "--service-cidr", "10.2.0.0/16", "--dns-domain", "corp.local", "--endpoint", "api.corp:7443",
			"--cert-san", "a.corp,b.corp", "--kube-proxy-mode", "iptables", "--containerd-data-dir", "/data/containerd", "--etcd-data-dir", "/data/etcd",
			"--disable-firewall", "--permissive-selinux"), want: plain(func(s *v1alpha1.ClusterSpec) {
			s.WorkerPools = []v1alpha1.WorkerPool{{Name: "gpu", Hosts: []string{"g1", "g2"}, Labels: map[string]string{"accelerator": "x"}, Taints: []v1alpha1.Taint{
				{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}, {Key: "slow", Effect: corev1.TaintEffectNoExecute}}}}
			s.Network = v1alpha1.NetworkSpec{PodCIDR: "10.1.0.0/16", ServiceCIDR: "10.2.0.0/16", KubeProxyMode: "iptables"}
			s.Kubernetes.DNSDomain = "corp.local"
			s.Endpoint = v1alpha1.EndpointSpec{Host: "api.corp", Port: 7443, CertSANs: []string{"a.corp", "b.corp"}}
			s.Runtime.DataDir, s.Components.Etcd.DataDir = "/data/containerd", "/data/etcd"
			s.HostSetup = v1alpha1.HostSetupSpec{DisableFirewall: true, PermissiveSELinux: true}
		})},
		"IPv6":         {reason: "an IPv6 address is no HOST:PORT", args: append(base, "--endpoint", "fd00::1"), want: plain(func(s *v1alpha1.ClusterSpec) { s.Endpoint.Host = "fd00::1" })},
		"UnknownField": {reason: "a file's unknown fields are refused", args: []string{"-f", bad}, code: output.ExitRefused},
		"NoVersion":    {reason: "a version is needed", args: []string{"--control-plane", "cp1"}, code: output.ExitUsage},
		"NoPool":       {reason: "a label needs its pool", args: append(base, "--label", "gpu:a=b"), code: output.ExitUsage},
		"BadTaint":     {reason: "an effect is one of three", args: append(base, "--worker", "w1", "--taint", "workers:a=b:Never"), code: output.ExitUsage},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{})
			if got := b.Run(t.Context(), New(b.Deps), append([]string{"create", "demo", "--no-wait"}, tc.args...)...); got != tc.code {
				t.Fatalf("%s: exit code %d, want %d\n%s", tc.reason, got, tc.code, b.Everything())
			}
			var made v1alpha1.Cluster
			err := b.Client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "demo"}, &made)
			if tc.want == nil {
				if !apierrors.IsNotFound(err) {
					t.Errorf("%s: a cluster was made: %v", tc.reason, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(*tc.want, made.Spec); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestInvalid(t *testing.T) {
	b := outputtest.New(t, outputtest.Hooks{Create: func(object client.Object) error {
		return apierrors.NewInvalid(v1alpha1.GroupVersion().WithKind("Cluster").GroupKind(), object.GetName(),
			field.ErrorList{field.Invalid(field.NewPath("spec", "network"), "x", "podCIDR and serviceCIDR overlap")})
	}})
	got := b.Run(t.Context(), New(b.Deps), "create", "demo", "--kubernetes", "v1.36.3", "--control-plane", "cp1", "--pod-cidr", "10.96.0.0/16")
	if got != output.ExitRefused {
		t.Errorf("exit code %d", got)
	}
	outputtest.Golden(t, "create-invalid", b.Everything())
}

func TestPlan(t *testing.T) {
	refusing := view()
	refusing.Preview[1] = output.Preview{Host: "w1", Step: "look", State: output.PreviewError, Error: "host w1: memory: found 1.0Gi, needs 2.0Gi", Fix: "give it more memory"}
	planned := v1alpha1.OperationStatus{Phase: v1alpha1.OperationPlanned, Plan: &v1alpha1.PlanReference{Hash: "sha256:1", Summary: "create cluster demo"}}
	blocked := v1alpha1.OperationStatus{Phase: v1alpha1.OperationBlocked, Message: "the hosts cannot be used",
		Failures: []v1alpha1.Failure{{Host: "w1", Reason: output.ReasonPrecheck, Message: "host w1 is claimed by default/other", Fix: "choose another host"}}}
	existing := &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo"}}
	spec := []string{"--kubernetes", "v1.36.3", "--control-plane", "cp1", "--worker", "w1"}
	cases := map[string]struct {
		reason  string
		args    []string
		status  v1alpha1.OperationStatus
		view    output.PlanView
		objects []client.Object
		want    output.ExitCode
	}{
		"shown":     {reason: "per host what differs, and how to approve", args: spec, status: planned, view: view(), want: output.ExitOK},
		"json":      {reason: "raw for programs", args: append(spec, "-o", "json"), status: planned, view: view(), want: output.ExitOK},
		"yaml":      {reason: "raw for programs", args: append(spec, "-o", "yaml"), status: planned, view: view(), want: output.ExitOK},
		"refused":   {reason: "a host that cannot be used is named with its fix", args: spec, status: planned, view: refusing, want: output.ExitRefused},
		"blocked":   {reason: "why no plan can be made", args: spec, status: blocked, view: view(), want: output.ExitRefused},
		"exists":    {reason: "what exists cannot be created", args: spec, objects: []client.Object{existing}, want: output.ExitRefused},
		"no-delete": {reason: "what does not exist cannot be deleted", args: []string{"--delete"}, want: output.ExitNotFound},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var made string
			b := outputtest.New(t, outputtest.Hooks{
				// The server makes the name up; a fixed one keeps what is printed the same.
				Create: func(object client.Object) error {
					object.SetName(object.GetGenerateName() + "x1")
					return nil
				},
				Created: func(ctx context.Context, server client.Client, object client.Object) {
					op := object.(*v1alpha1.Operation)
					made, op.Status = op.Name, tc.status
					if err := server.Status().Update(ctx, op); err != nil {
						t.Error(err)
					}
				},
			}, tc.objects...)
			servePlan(t, b, "demo-create-x1", tc.view)
			if got := b.Run(t.Context(), New(b.Deps), append([]string{"plan", "demo"}, tc.args...)...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d (operation %q)", tc.reason, got, tc.want, made)
			}
			outputtest.Golden(t, "plan-"+name, b.Everything())
			var clusters v1alpha1.ClusterList
			if err := b.Client.List(t.Context(), &clusters); err != nil || len(clusters.Items) != len(tc.objects) {
				t.Errorf("a plan makes no cluster: %d, %v", len(clusters.Items), err)
			}
		})
	}
}

func existing() *v1alpha1.Cluster {
	return &v1alpha1.Cluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo", UID: "u1", Finalizers: []string{v1alpha1.Finalizer}},
		Spec:       v1alpha1.ClusterSpec{Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.36.3"}, ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{"cp1"}}},
		Status: v1alpha1.ClusterStatus{State: v1alpha1.ClusterDegraded, Version: "v1.36.3", Endpoint: "https://10.0.0.10:6443", Operation: opName,
			Nodes:        v1alpha1.ClusterNodes{Total: 3, Ready: 2, Summary: "2/3", NotReady: []v1alpha1.NodeProblem{{Name: "w2", Reason: "KubeletNotReady", Message: "PLEG is not healthy"}}},
			Conditions:   []metav1.Condition{{Type: v1alpha1.ClusterReady, Status: metav1.ConditionFalse, Reason: "NodesNotReady", Message: "1 of 3 nodes is not Ready"}},
			Certificates: []v1alpha1.ClusterCertificate{{Name: "ca", ExpiresAt: *at(10 * 365 * 86400)}, {Name: "apiserver", ExpiresAt: *at(-60)}}},
	}
}

func TestDelete(t *testing.T) {
	release := func(t *testing.T, b *outputtest.Bench) {
		var c v1alpha1.Cluster
		if err := b.Client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "demo"}, &c); err != nil {
			t.Error(err)
			return
		}
		c.Finalizers = nil
		if err := b.Client.Update(t.Context(), &c); err != nil {
			t.Error(err)
		}
	}
	unclean := v1alpha1.Failure{Host: "w1", Step: "reset", Message: "cannot reach host w1", Fix: "clean it by hand"}
	cases := map[string]struct {
		reason   string
		args     []string
		stdin    string
		terminal bool
		end      func(s *v1alpha1.OperationStatus)
		gone     bool
		want     output.ExitCode
	}{
		"clean":   {reason: "followed until the cluster has gone", args: []string{"--yes"}, end: ends(v1alpha1.OperationSucceeded, 2), gone: true, want: output.ExitOK},
		"unclean": {reason: "a host that could not be cleaned is named", args: []string{"--yes"}, end: ends(v1alpha1.OperationPartial, 1, unclean), gone: true, want: output.ExitPartial},
		"fails":   {reason: "a failed deletion leaves the cluster", args: []string{"--yes"}, end: ends(v1alpha1.OperationFailed, 1, unclean), want: output.ExitOperationFailed},
		"no-wait": {reason: "told and left alone", args: []string{"--yes", "--no-wait"}, want: output.ExitOK},
		"asks":    {reason: "another name is no confirmation", stdin: "demo2\n", terminal: true, want: output.ExitRefused},
		"pipe":    {reason: "nobody can be asked", want: output.ExitUsage},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{Deleted: func(ctx context.Context, server client.Client, _ client.Object) {
				if err := server.Create(ctx, operation(v1alpha1.VerbDelete)); err != nil {
					t.Error(err)
				}
			}}, existing())
			b.Deps.Terminal = tc.terminal
			b.In.WriteString(tc.stdin)
			servePlan(t, b, "demo-delete-1", view())
			play(t, b, "demo-delete-1", turn{"operation demo-delete-1", running}, turn{"Check the hosts: started", joining},
				turn{"Join the workers: started", func(s *v1alpha1.OperationStatus) { tc.end(s) }})
			follow := b.Out.React
			b.Out.React = func(text string) {
				follow(text)
				if tc.gone && strings.Contains(text, "Join the workers: ") && strings.Contains(text, " in ") {
					release(t, b)
				}
			}
			if got := b.Run(t.Context(), New(b.Deps), append([]string{"delete", "demo"}, tc.args...)...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d", tc.reason, got, tc.want)
			}
			outputtest.Golden(t, "delete-"+name, b.Everything())
		})
	}
}

func TestLook(t *testing.T) {
	op := operation(v1alpha1.VerbCreate)
	op.Status = v1alpha1.OperationStatus{Phase: v1alpha1.OperationRunning, Stage: "join", Progress: v1alpha1.Progress{Summary: "3/4"},
		Failures: []v1alpha1.Failure{{Host: "w2", Step: "join", Message: "cannot join host w2", Fix: "look there"}}}
	for name, args := range map[string][]string{
		"status": {"status", "demo"}, "list": {"list"}, "list-all": {"list", "-A", "-o", "wide"}, "list-none": {"list", "-p", "other"},
		"status-none": {"status", "nope"}, "status-name": {"status", "demo", "-o", "name"},
	} {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{}, existing(), op.DeepCopy())
			want := output.ExitOK
			if name == "status-none" {
				want = output.ExitNotFound
			}
			if got := b.Run(t.Context(), New(b.Deps), args...); got != want {
				t.Errorf("exit code %d, want %d", got, want)
			}
			outputtest.Golden(t, name, b.Everything())
		})
	}
}

func TestKubeconfig(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, way, body string
		args              []string
		code              int
		want              output.ExitCode
		says              string
	}{
		"plain": {reason: "through Slipway, as long as the server says", way: "kubeconfig", body: `{}`, says: "kubeconfig of cluster team/demo; it ends soon; use it: kubectl --kubeconfig "},
		"hours": {reason: "as long as asked", way: "kubeconfig", body: `{"hours":3}`, args: []string{"--hours", "3"}, says: "it ends soon"},
		"break-glass": {reason: "past Slipway, with a reason", way: "breakglass", body: `{"hours":2,"reason":"the gateway is down"}`,
			args: []string{"--break-glass", "--reason", "the gateway is down", "--hours", "2"}, says: "it ends soon"},
		"break-glass without a reason": {reason: "somebody will ask", args: []string{"--break-glass"}, want: output.ExitUsage, says: "--reason"},
		"reason alone":                 {reason: "it would be lost", args: []string{"--reason", "the gateway is down"}, want: output.ExitUsage, says: "--break-glass"},
		"no hours":                     {reason: "it would have ended already", args: []string{"--hours", "0"}, want: output.ExitUsage, says: "--hours"},
		"no cluster":                   {reason: "the server knows", want: output.ExitNotFound, says: "demo"},
		"no right":                     {reason: "the server's words reach the person", way: "kubeconfig", body: `{}`, code: http.StatusForbidden, want: output.ExitRefused, says: "the server's words"},
		"not created":                  {reason: "it will be", way: "kubeconfig", body: `{}`, code: http.StatusConflict, want: output.ExitRefused, says: "fix: slipway cluster status demo"},
	} {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{})
			const content = "# kubeconfig of cluster team/demo; it ends soon\nkind: Config\n"
			if tc.way != "" {
				b.Mux.HandleFunc("POST /slipway/v1/projects/team/clusters/demo/"+tc.way, func(w http.ResponseWriter, r *http.Request) {
					if body, err := io.ReadAll(r.Body); err != nil || string(body) != tc.body {
						t.Errorf("%s: the server was asked for %s, %v", tc.reason, body, err)
					}
					if tc.code != 0 {
						w.Header().Set("Content-Type", "application/json")
						w.WriteHeader(tc.code)
						reason := map[int]string{http.StatusForbidden: "Forbidden", http.StatusConflict: "Conflict"}[tc.code]
						fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"the server's words","reason":%q,"code":%d}`, reason, tc.code)
						return
					}
					w.Header().Set("Content-Type", "application/yaml")
					if _, err := w.Write([]byte(content)); err != nil {
						t.Error(err)
					}
				})
			}
			path := filepath.Join(t.TempDir(), "demo.kubeconfig")
			if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
				t.Fatal(err)
			}
			if got := b.Run(t.Context(), New(b.Deps), append([]string{"kubeconfig", "demo", "-p", "team", "--output", path}, tc.args...)...); got != tc.want {
				t.Fatalf("%s: exit code %d, want %d\n%s", tc.reason, got, tc.want, b.Everything())
			}
			if !strings.Contains(b.Everything(), tc.says) {
				t.Errorf("%s: it does not say %q:\n%s", tc.reason, tc.says, b.Everything())
			}
			if tc.want != output.ExitOK {
				return
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != content {
				t.Errorf("%s: %q, %v", tc.reason, got, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, %v", tc.reason, info.Mode(), err)
			}
		})
	}
}
