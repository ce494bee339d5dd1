// Package pki mints keys and certificates and keeps them on disk. It owns certificate authorities, leaf
// certificates, service-account keys and the crash-safe writing of small private files.
// It never talks to a network, never logs, and never decides who is trusted with what.
package pki
