// Package v1alpha1 owns the kinds of Slipway: their fields, defaults and validation rules.
// It must never import code of ours or hold behaviour beyond reading its own fields.
//
// +kubebuilder:object:generate=true
// +groupName=slipway.dev
package v1alpha1
