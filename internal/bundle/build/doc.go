// Package build makes a bundle from source: it resolves and locks what a release recipe asks for, builds each part
// with the Go toolchain and the C compiler of this machine, packs images and puts everything into a bundle store.
//
// It must never take anything that the lock does not name, and never write to a store before all parts are built.
package build
