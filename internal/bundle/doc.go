// Package bundle owns the contract of Slipway's packages: the bundle manifest, the content-addressed store
// (an OCI image layout), its verification, the read-only registry in front of it, and the types of a release
// recipe and its lock.
//
// It must never build anything, never touch a host and never know about clusters: it stores, checks and serves
// bytes by digest.
package bundle
