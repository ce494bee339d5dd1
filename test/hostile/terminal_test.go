package hostile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/cluster"
	clihost "slipway.dev/slipway/internal/cli/host"
	clioperation "slipway.dev/slipway/internal/cli/operation"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

// steers gives the first part of text that a terminal, or the eye, would take for more than text; "" is none.
func steers(text string) string {
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd"):
			return fmt.Sprintf("%q", text[i:i+1])
		case r == '\n' || r == '\t' || unicode.IsPrint(r) || unicode.Is(unicode.Z, r) && r != '\u2028' && r != '\u2029':
		default:
			return fmt.Sprintf("%q", r)
		}
	}
	return ""
}

// TestTerminal_TextIsText: what the command line prints for people holds text and nothing else, on as many lines as it
// should, and what it prints for programs means exactly what it was.
func TestTerminal_TextIsText(t *testing.T) {
	t.Parallel()
	rounds := size(120_000)
	s := newSource(77)
	s.longest = 300
	for range rounds {
		v := s.next()
		tried.add("texts on a terminal", v)
		if text := output.Clean(v); steers(text) != "" {
			t.Fatalf("%q is shown with %s", v, steers(text))
		}
		if text := output.Line(v); steers(text) != "" || strings.ContainsAny(text, "\n\t") {
			t.Fatalf("%q is shown on a line as %q", v, text)
		}
		var out bytes.Buffer
		if err := output.Table(&out, "", []string{"A", "B"}, []string{v, "b"}); err != nil {
			t.Fatal(err)
		}
		if text := out.String(); strings.Count(text, "\n") != 2 || steers(text) != "" {
			t.Fatalf("%q makes the table %q", v, text)
		}
		out.Reset()
		if output.Report(&out, fault.NewTerminal("X", v, fmt.Errorf("%s", v))); steers(out.String()) != "" {
			t.Fatalf("%q is reported as %q", v, out.String())
		}
	}
	for range size(24_000) {
		key := s.next() // YAML bounds keys, and no map of ours has long ones.
		v := map[string]string{wire(key[:min(len(key), 60)]): wire(s.next()), "b": wire(s.next())}
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		tried.add("documents on a terminal", string(want))
		for _, format := range []output.Format{output.FormatJSON, output.FormatYAML} {
			var out bytes.Buffer
			if err := output.PrintValue(&out, format, v); err != nil {
				t.Fatal(err)
			}
			if steers(out.String()) != "" {
				t.Fatalf("%q is printed as %q", v, out.String())
			}
			got, err := yaml.YAMLToJSON(out.Bytes())
			if format == output.FormatJSON {
				got, err = out.Bytes(), nil
			}
			var wanted, read map[string]string
			if err == nil {
				err = json.Unmarshal(got, &read)
			}
			if err == nil {
				err = json.Unmarshal(want, &wanted)
			}
			if err != nil || !reflect.DeepEqual(folded(wanted), folded(read)) {
				t.Fatalf("%q is printed as %s, which means %q: %v", wanted, out.String(), read, err)
			}
		}
	}
}

// folded takes the one difference away that YAML makes: it reads some line ends as blanks.
func folded(m map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[strings.Join(strings.Fields(k), " ")] = strings.Join(strings.Fields(v), " ")
	}
	return out
}

// fill puts hostile strings into everything below v that holds text; suite, if any, has tried them.
func (s *source) fill(v reflect.Value, suite string) {
	switch v.Kind() {
	case reflect.String:
		text := wire(s.next())
		v.SetString(text)
		if suite != "" {
			tried.add(suite, text)
		}
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		s.fill(v.Elem(), suite)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			s.fill(v.Index(i), suite)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[metav1.Time]() || v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				s.fill(v.Field(i), suite)
			}
		}
	}
}

// TestTerminal_CommandsPrintText: every command that shows what a server has prints text and nothing else, even when
// every single string that the server sends is hostile.
func TestTerminal_CommandsPrintText(t *testing.T) {
	t.Parallel()
	const suite = "strings of a server through every command"
	rounds := size(120)
	s := newSource(78)
	s.longest = 200
	host := func(b *outputtest.Bench) *cobra.Command { return clihost.New(b.Deps) }
	clusters := func(b *outputtest.Bench) *cobra.Command { return cluster.New(b.Deps) }
	operations := func(b *outputtest.Bench) *cobra.Command { return clioperation.New(b.Deps) }
	commands := []struct {
		of   func(*outputtest.Bench) *cobra.Command
		args string
	}{
		{host, "list"}, {host, "list -o wide"}, {host, "list -o json"}, {host, "list -o yaml"}, {host, "list -o name"}, {host, "check w1 --timeout 1ms"},
		{clusters, "list"}, {clusters, "list -o wide"}, {clusters, "status demo"}, {clusters, "status demo -o json"}, {clusters, "status demo -o yaml"},
		{operations, "list -o wide"}, {operations, "show demo-create"}, {operations, "show demo-create -o json"}, {operations, "logs demo-create --full"},
		{operations, "logs demo-create -o json"}, {operations, "approve demo-create"}, {operations, "retry demo-create"},
	}
	for range rounds {
		w1 := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "w1"}}
		demo := &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo"}}
		op := &v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo-create", Labels: map[string]string{v1alpha1.LabelCluster: "demo"}}}
		run := &v1alpha1.HostRun{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo-create.w1", Labels: map[string]string{output.LabelOperation: "demo-create"}}}
		for _, v := range []any{&w1.Spec, &w1.Status, &demo.Spec, &demo.Status, &op.Spec, &op.Status, &run.Spec, &run.Status} {
			s.fill(reflect.ValueOf(v).Elem(), suite)
		}
		for i, kind := range []string{v1alpha1.HostReachable, v1alpha1.HostUnique} {
			w1.Status.Conditions[i].Type, w1.Status.Conditions[i].Status = kind, metav1.ConditionFalse
		}
		w1.Status.Facts.Swap, w1.Status.Facts.Tools = true, []string{"containerd", "dockerd"}
		demo.Status.Operation, run.Spec.Host, op.Status.Failures[0].Host = "demo-create", "w1", "w1"
		run.Status.Steps[0].State, op.Status.Failures[0].Step = v1alpha1.StepFailed, run.Status.Steps[0].Name
		op.Status.Phase = []v1alpha1.OperationPhase{v1alpha1.OperationFailed, v1alpha1.OperationPlanned, v1alpha1.OperationRunning, v1alpha1.OperationBlocked}[s.IntN(4)]

		var entry operation.LogEntry
		s.fill(reflect.ValueOf(&entry).Elem(), suite)
		*entry.ExitCode = 1
		line, err := json.Marshal(entry)
		if err != nil {
			t.Fatal(err)
		}
		view := output.PlanView{Plan: &plan.Plan{Hosts: []step.Target{{}}, Stages: []plan.Stage{{}}}, Preview: []output.Preview{{}}}
		for _, v := range []any{&view.Plan.Hosts[0], &view.Plan.Summary, &view.Preview[0]} {
			s.fill(reflect.ValueOf(v).Elem(), suite)
		}
		for _, c := range commands {
			b := outputtest.New(t, outputtest.Hooks{}, w1.DeepCopy(), demo.DeepCopy(), op.DeepCopy(), run.DeepCopy())
			b.Mux.HandleFunc("/slipway/v1/projects/default/operations/demo-create/log", func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(append(line, '\n'))
			})
			b.Mux.HandleFunc("/slipway/v1/projects/default/operations/demo-create/plan", func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(view)
			})
			b.Run(t.Context(), c.of(b), strings.Fields(c.args)...)
			if all := b.Everything(); steers(all) != "" {
				at := strings.Index(all, strings.Trim(steers(all), "'\""))
				t.Fatalf("%s prints %s: %.300q", c.args, steers(all), all[max(0, at-100):])
			}
		}
		var out bytes.Buffer
		if err := output.PrintPlan(&out, true, &view); err != nil || steers(out.String()) != "" {
			t.Fatalf("the plan prints %s: %q, %v", steers(out.String()), out.String(), err)
		}
	}
}
