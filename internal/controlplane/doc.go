// Package controlplane owns the embedded Kubernetes API: etcd, the generic API server, the controllers of
// Kubernetes that make it whole, and the data directory they live in. It alone knows that they are embedded
// and it alone imports k8s.io/kubernetes. It listens on loopback only, serves no person directly, and knows
// nothing of what the kinds mean.
package controlplane
