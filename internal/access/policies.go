package access

import (
	"embed"
	"fmt"
	"io/fs"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/api/v1alpha1"
)

// LabelPart is on every role and policy that this package keeps, so that those of an older version can be found.
const LabelPart = "slipway.dev/part"

// partAccess is the value of LabelPart here.
const partAccess = "access"

// policyFiles say what RBAC cannot: which of an object's fields someone may change, and what its content allows.
//
//go:embed policies/*.yaml
var policyFiles embed.FS

// policies gives the admission policies, each followed by its binding.
func policies() ([]*unstructured.Unstructured, error) {
	names, err := fs.Glob(policyFiles, "policies/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("cannot find policies: %w", err)
	}
	var all []*unstructured.Unstructured
	for _, name := range names {
		content, err := policyFiles.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read policy: %w", err)
		}
		p := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(content, &p.Object); err != nil {
			return nil, fmt.Errorf("cannot read policy %s: %w", name, err)
		}
		all = append(all, bound(p)...)
	}
	return all, nil
}

// bound gives a policy and what puts it in force everywhere. There is no failure that lets a request pass.
func bound(policy *unstructured.Unstructured) []*unstructured.Unstructured {
	spec := map[string]any{"policyName": policy.GetName()}
	if policy.GetKind() == "ValidatingAdmissionPolicy" {
		spec["validationActions"] = []any{string(admissionv1.Deny)}
	}
	policy.Object["spec"].(map[string]any)["failurePolicy"] = string(admissionv1.Fail)
	binding := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	binding.SetName(policy.GetName())
	binding.SetAPIVersion(policy.GetAPIVersion())
	binding.SetKind(policy.GetKind() + "Binding")
	return []*unstructured.Unstructured{policy, binding}
}

// probeName is the Operation that is never made: asking for it tells whether the policies are in force.
const probeName = "slipway-access-probe"

// probeAnnotation is on that Operation alone, and never stored.
const probeAnnotation = "slipway.dev/access-probe"

// probes gives two policies that together refuse the Operation of that name: the mutating one marks it, and the
// validating one refuses what bears the mark of the same generation. They match nothing else.
func probes(generation string) []*unstructured.Unstructured {
	match := map[string]any{
		"namespaceSelector": map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": v1alpha1.SystemNamespace}},
		"resourceRules": []any{map[string]any{
			"apiGroups": []any{v1alpha1.Group}, "apiVersions": []any{"*"}, "operations": []any{"CREATE"},
			"resources": []any{"operations"}, "resourceNames": []any{probeName},
		}},
	}
	mark := fmt.Sprintf("[JSONPatch{op: 'add', path: '/metadata/annotations', value: {%q: %q}}]", probeAnnotation, generation)
	refuse := fmt.Sprintf("object.metadata.?annotations[?%q].orValue('') != %q", probeAnnotation, generation)
	mutating := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"reinvocationPolicy": "Never", "matchConstraints": match,
		"mutations": []any{map[string]any{"patchType": "JSONPatch", "jsonPatch": map[string]any{"expression": mark}}},
	}}}
	validating := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"matchConstraints": match,
		"validations":      []any{map[string]any{"expression": refuse, "message": inForce(generation), "reason": "Forbidden"}},
	}}}
	for _, p := range []*unstructured.Unstructured{mutating, validating} {
		p.SetAPIVersion(admissionv1.SchemeGroupVersion.String())
		p.SetName("slipway-probe")
	}
	mutating.SetKind("MutatingAdmissionPolicy")
	validating.SetKind("ValidatingAdmissionPolicy")
	return append(bound(mutating), bound(validating)...)
}

func inForce(generation string) string { return "policies " + generation + " are in force" }
