package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/api/crd"
)

// kinds are our kinds as the API server knows them: schemas, defaults and rules.
type kinds map[string]*kind

type kind struct {
	structural *schema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
}

func loadKinds(t testing.TB) kinds {
	t.Helper()
	names, err := fs.Glob(crd.Files, "*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d kinds: %v", len(names), err)
	}
	all := kinds{}
	for _, name := range names {
		b, err := fs.ReadFile(crd.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		var published apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(b, &published); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		apiextensionsv1.SetDefaults_CustomResourceDefinition(&published)
		apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&published.Spec)
		published.Status.StoredVersions = []string{published.Spec.Versions[0].Name}
		var d apiextensions.CustomResourceDefinition
		if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&published, &d, nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if errs := crdvalidation.ValidateCustomResourceDefinition(t.Context(), &d); len(errs) > 0 {
			t.Fatalf("%s: the API server refuses the kind itself: %v", name, errs.ToAggregate())
		}
		spec, err := apiextensions.GetSchemaForVersion(&d, published.Spec.Versions[0].Name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		k := &kind{}
		if k.structural, err = schema.NewStructural(spec.OpenAPIV3Schema); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if k.schema, _, err = validation.NewSchemaValidator(spec.OpenAPIV3Schema); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		k.rules = cel.NewValidator(k.structural, true, celconfig.PerCallLimit)
		all[d.Spec.Names.Kind] = k
	}
	return all
}

// admit does with an object what the API server does: it goes over the wire, gets defaults and is checked. Into takes
// the object as it would be stored.
func (k kinds) admit(ctx context.Context, name string, object, into any) error {
	b, err := json.Marshal(object)
	if err != nil {
		return err
	}
	var fields map[string]any
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.UseNumber()
	if err := decoder.Decode(&fields); err != nil {
		return err
	}
	integers(fields)
	of := k[name]
	defaulting.Default(fields, of.structural)
	if errs := of.check(ctx, fields); len(errs) > 0 {
		return errs.ToAggregate()
	}
	if b, err = json.Marshal(fields); err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

func (k *kind) check(ctx context.Context, fields map[string]any) field.ErrorList {
	errs := validation.ValidateCustomResource(nil, fields, k.schema)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, k.structural, fields)...)
	if len(errs) > 0 {
		return errs
	}
	errs, _ = k.rules.Validate(ctx, nil, k.structural, fields, nil, celconfig.RuntimeCELCostBudget)
	return errs
}

// integers makes the numbers what the API server decodes them to.
func integers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			v[key] = integers(v[key])
		}
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // Any number of JSON is one.
		return f
	}
	return v
}
