// Package gateway owns the one TLS port. It says who a request is from, takes away every header by which a
// request could claim to be someone else, and hands it to the loopback API server in that person's name, so
// that RBAC decides. It serves liveness, readiness and what is mounted beside the API, and it never decides
// what a person may do.
package gateway
