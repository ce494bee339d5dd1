// Package bundle owns the commands `slipway bundle ...`: build, list, verify, export and import, acting on a bundle
// store of this machine.
//
// It must only parse flags, call internal/bundle and internal/bundle/build, and print.
package bundle
