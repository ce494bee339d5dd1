package crd

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"
)

const golden = "testdata/fields.golden"

// definition is what the test reads of a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Names    struct{ Kind string }
		Scope    string
		Versions []struct {
			Name   string
			Schema struct {
				OpenAPIV3Schema schema `yaml:"openAPIV3Schema"`
			}
		}
	}
}

type schema struct {
	Type                 string
	Properties           map[string]schema
	Items                *schema
	AdditionalProperties *schema `yaml:"additionalProperties"`
}

// fields lists every path below s with its type.
func (s schema) fields(path string) []string {
	all := []string{path + " " + s.Type}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		all = append(all, s.Properties[name].fields(path+"."+name)...)
	}
	if s.Items != nil {
		all = append(all, s.Items.fields(path+"[]")...)
	}
	if s.AdditionalProperties != nil {
		all = append(all, s.AdditionalProperties.fields(path+"{}")...)
	}
	return all
}

func read(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(Files, "*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d definitions: %v", len(names), err)
	}
	var all []string
	for _, name := range names {
		b, err := fs.ReadFile(Files, name)
		if err != nil {
			t.Fatal(err)
		}
		var d definition
		if err := yaml.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, v := range d.Spec.Versions {
			all = append(all, v.Schema.OpenAPIV3Schema.fields(d.Spec.Scope+"/"+v.Name+"/"+d.Spec.Names.Kind)...)
		}
	}
	slices.Sort(all)
	return all
}

// TestKindsOnlyGainFields: what people have stored stays readable. A field that is gone, or has another type, fails;
// new fields are added to the golden file with UPDATE_GOLDEN=1, which never takes a line out.
func TestKindsOnlyGainFields(t *testing.T) {
	have := read(t)
	b, err := os.ReadFile(filepath.FromSlash(golden))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(b) == 0 {
		want = nil
	}
	for _, line := range want {
		if !slices.Contains(have, line) {
			t.Errorf("%s is gone: kinds only gain fields", line)
		}
	}
	var gained []string
	for _, line := range have {
		if !slices.Contains(want, line) {
			gained = append(gained, line)
		}
	}
	if len(gained) == 0 {
		return
	}
	if os.Getenv("UPDATE_GOLDEN") == "" {
		t.Fatalf("new fields, which UPDATE_GOLDEN=1 adds to %s:\n%s", golden, strings.Join(gained, "\n"))
	}
	all := append(want, gained...)
	slices.Sort(all)
	if err := os.WriteFile(filepath.FromSlash(golden), []byte(strings.Join(all, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}
