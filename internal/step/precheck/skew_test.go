package precheck

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// listed is a cluster of which only objects are asked.
type listed struct {
	step.ClusterReader
	client.Reader
}

func (l listed) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	return l.Reader.Get(ctx, key, o, opts...)
}

func (l listed) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	return l.Reader.List(ctx, list, opts...)
}

// TestSkew: no kubelet is more than three minor versions behind the API servers to come, nor newer.
func TestSkew(t *testing.T) {
	cases := map[string]struct {
		reason  string
		kubelet string
		want    string
	}{
		"same":           {"a retry finds nodes that have moved already", "v1.37.1", ""},
		"newer patch":    {"patches do not matter", "v1.37.9", ""},
		"three behind":   {"the oldest that is allowed", "v1.34.0", ""},
		"with a suffix":  {"distributions add their own", "v1.36.3+k3s1", ""},
		"four behind":    {"it could not talk to the new API server", "v1.33.9", "host w1: skew: found kubelet v1.33.9, needs v1.34 or newer for API servers of v1.37.1"},
		"newer":          {"it may use what the API server does not have", "v1.38.0", "host w1: skew: found kubelet v1.38.0, needs v1.37 or older"},
		"says nothing":   {"what is not known is not fit", "", `host w1: skew: found a kubelet that says it is ""`},
		"steers screens": {"a node may say anything", "\x1b[31mv1", `host w1: skew: found a kubelet that says it is "[31mv1"`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1"}, Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KubeletVersion: tc.kubelet}}}
			c := listed{Reader: clientfake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(n).Build()}
			_, err := Skew{Version: "v1.37.1"}.Check(t.Context(), step.Reader{Cluster: c})
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("%s: %v", tc.reason, err)
			case tc.want != "" && (fault.ClassOf(err) != fault.Terminal || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%s: %v, want a Terminal error that says %q", tc.reason, err, tc.want)
			}
		})
	}
}
