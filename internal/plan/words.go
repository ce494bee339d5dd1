package plan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	names "k8s.io/apimachinery/pkg/util/validation"

	"slipway.dev/slipway/internal/step"
)

// words proves that each label and taint is what Kubernetes takes. All of them reach the kubelet in one argument each,
// so a comma or a blank in one would be the beginning of another, or of another argument.
func words(t step.Target) error {
	for key, value := range t.Labels {
		if problem := problem(key, value); problem != "" {
			return fmt.Errorf("%q=%q is no label: %s", key, value, problem)
		}
	}
	effects := []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}
	for _, taint := range t.Taints {
		keyValue, effect, _ := strings.Cut(taint, ":")
		key, value, _ := strings.Cut(keyValue, "=")
		if problem := problem(key, value); problem != "" {
			return fmt.Errorf("%q is no taint: %s", taint, problem)
		}
		if !slices.Contains(effects, corev1.TaintEffect(effect)) {
			return fmt.Errorf("%q is no taint: its effect must be one of %v", taint, effects)
		}
	}
	return nil
}

// problem says what is wrong with a key and its value, "" when nothing is.
func problem(key, value string) string {
	return strings.Join(append(names.IsQualifiedName(key), names.IsValidLabelValue(value)...), "; ")
}
