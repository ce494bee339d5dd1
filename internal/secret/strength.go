package secret

import (
	"bytes"
	"errors"
	"fmt"
)

const (
	// minKey is the least length of a symmetric key or token in bytes.
	minKey = 32
	// minVariety is the least number of different bytes in one: 32 random bytes have about 30.
	minVariety = 8
)

// CheckKey refuses a key or token that somebody else may have: shorter than 32 bytes, of few different bytes, or
// printed in documentation. The error never holds the key.
func CheckKey(key []byte) error {
	if len(key) == 0 {
		return errors.New("it is empty")
	}
	if len(key) < minKey {
		return fmt.Errorf("it has %d bytes, %d at least are needed", len(key), minKey)
	}
	var seen [256]bool
	variety := 0
	for _, b := range key {
		if !seen[b] {
			seen[b] = true
			variety++
		}
	}
	if variety < minVariety {
		return fmt.Errorf("it is made of %d different bytes only: it is not random", variety)
	}
	for _, known := range wellKnown() {
		if bytes.Equal(key, []byte(known)) {
			return errors.New("it is an example from documentation, which everybody has")
		}
	}
	follows := 0
	for i := 1; i < len(key); i++ {
		if key[i] == key[i-1]+1 {
			follows++
		}
	}
	if follows > len(key)/2 {
		return errors.New("its bytes count upwards: it is not random")
	}
	return nil
}

// wellKnown lists the examples of at least 32 bytes in the documentation of Kubernetes and of Slipway.
func wellKnown() []string {
	return []string{
		"abcdefghijklmnopqrstuvwxyz123456",
		"slipway-example-key-never-use-it",
		"slipway-example-token-never-use-it",
	}
}
