package cluster

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/internal/host"
)

// TestNodes_HostileText: nodes say what they want of themselves, in any number and at any length; the status of their
// cluster stays small and safe to show.
func TestNodes_HostileText(t *testing.T) {
	const odd = "\x1b[2J\x1b]0;owned\x07\u202etxt\u009b31m\xff\r\n"
	nodes := map[string]*corev1.Node{}
	for i := range 2000 {
		name := fmt.Sprintf("node-%d", i)
		nodes[name] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: strings.Repeat(odd+"R", 1000), Message: strings.Repeat(odd+"m", 10_000)},
		}}}
	}
	counted := countNodes(nodes)
	if counted.Total != 2000 || counted.Ready != 0 || len(counted.NotReady) != maxNotReady {
		t.Errorf("%d of %d nodes, %d named", counted.Ready, counted.Total, len(counted.NotReady))
	}
	for _, n := range counted.NotReady {
		if n.Message != host.Clean(n.Message, maxMessage) || n.Reason != host.Clean(n.Reason, maxReason) || n.Message == "" {
			t.Errorf("node %s says %.100q, %.100q", n.Name, n.Reason, n.Message)
		}
	}
	b, err := json.Marshal(counted)
	if err != nil || len(b) > 128<<10 {
		t.Errorf("the status has %d bytes: %v", len(b), err)
	}
}
