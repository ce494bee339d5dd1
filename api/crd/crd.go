// Package crd owns the generated CustomResourceDefinitions of the kinds in v1alpha1.
// It must never be edited by hand: `make generate` writes the YAML files.
package crd

import "embed"

// Files holds one YAML file per kind.
//
//go:embed *.yaml
var Files embed.FS
