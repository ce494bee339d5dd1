package operation_test

import (
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/step"
)

// BenchmarkRun_500Hosts runs ten changing steps on each of 500 hosts in memory, the journal in client-go's fake.
func BenchmarkRun_500Hosts(b *testing.B) {
	const hosts, each = 500, 10
	var names []string
	for i := range hosts {
		names = append(names, fmt.Sprintf("w%d", i))
	}
	var steps []step.Step
	for i := range each {
		steps = append(steps, file{Path: fmt.Sprintf("/f%d", i), Content: "x"})
	}
	all := strings.Join(names, " ")
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b, planned(b, all, on(b, "a", all, "", steps...)), interceptor.Funcs{})
		b.StartTimer()
		out, err := w.run(b)
		if err != nil || out.Phase != v1alpha1.OperationSucceeded {
			b.Fatalf("%+v %v", out, err)
		}
	}
	b.ReportMetric(hosts*each*float64(b.N)/b.Elapsed().Seconds(), "steps/s")
}
