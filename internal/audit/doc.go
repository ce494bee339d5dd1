// Package audit owns the record of who did what, from where, and how it ended: an append-only chain of lines in
// which each names the digest of the one before, so that a line changed, added or taken out later shows.
// It must never hold a secret or the content of an object, and never make a request wait for a disk: a line is handed
// to the kernel before Record returns, and is on disk a second later.
package audit
