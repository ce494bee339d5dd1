package backup

import "math/rand/v2"

// noise is size bytes that are the same for the same seed.
func noise(seed uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	// It never fails.
	_, _ = r.Read(b)
	return b
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
