package host

import (
	"log/slog"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/api/v1alpha1"
)

// TestConditionsHoldNoSecret holds that what a machine repeats of its login is not in the status, which many may read.
func TestConditionsHoldNoSecret(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	h := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "w1"}}
	c := clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(h).WithStatusSubresource(h).Build()
	r := New(Deps{Client: c, Log: slog.New(slog.DiscardHandler), Redact: func(text string) string { return strings.ReplaceAll(text, "sesame", "[redacted]") }})
	next := v1alpha1.HostStatus{Conditions: []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionFalse, Reason: "SudoRefused",
		Message: `cannot become root: "wrong password sesame"`, LastTransitionTime: metav1.Now()}}}
	if err := r.write(t.Context(), h, next); err != nil {
		t.Fatal(err)
	}
	var stored v1alpha1.Host
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(h), &stored); err != nil {
		t.Fatal(err)
	}
	if got, want := meta.FindStatusCondition(stored.Status.Conditions, v1alpha1.HostReachable).Message, `cannot become root: "wrong password [redacted]"`; got != want {
		t.Errorf("the condition says %q, want %q", got, want)
	}
}
