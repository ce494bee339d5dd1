// Package audit owns the record of who did what, from where, and how it ended: an append-only chain of lines in
// which each names the digest of the one before, so that a line changed, added or taken out later shows.
// It must never hold a secret or the content of an object, and never lose a line because a disk is slow.
package audit
