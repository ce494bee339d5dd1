// Package backup owns what a backup file is and where it is kept: the archive, the stores, the names, and which go first.
// It must never touch a host or the API, hold a whole snapshot in memory, or call a file good that it has not read to
// its end.
//
// A file is one line that may be read by anyone (format, cluster, time), then an age file. Inside that are, in this
// order, the spec, the keys, the etcd snapshot and the manifest, which has the digest of everything before it, the
// plain line too. age encrypts and authenticates, but anyone who knows the recipient can write a file that verifies: keep
// the recipient as secret as the identity, and compare a file's digest with the one that was recorded when it was made.
package backup
