// Package sandbox owns test hosts on one Linux machine: system containers with systemd, sshd, a network, a disk
// and a memory limit of their own, reached by SSH like any other host. Everything it makes is derived from one
// sandbox directory, so two installations never meet, and Down removes every trace of it.
//
// A sandbox is no security boundary: root on a sandbox host can become root on the machine. The package must
// never be used to keep apart people or workloads that do not trust each other, and it must never know what is
// installed on the hosts it makes.
package sandbox
