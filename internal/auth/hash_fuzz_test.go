package auth

import (
	"bytes"
	"testing"
)

// FuzzParsePHC: a stored hash that somebody has written over takes no more memory and time than the bounds allow, or is
// refused; what is read means the same when it is written again.
func FuzzParsePHC(f *testing.F) {
	for _, s := range []string{phc(defaultArgon2(), make([]byte, saltLength), make([]byte, keyLength)), "", "$$$$$",
		"$argon2id$v=19$m=4294967295,t=4294967295,p=255$AAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=-1,t=1,p=1$AAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=1,t=1,p=1 x$AAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, stored string) {
		p, salt, key, err := parsePHC(stored)
		if err != nil {
			return
		}
		if p.MemoryKiB == 0 || p.MemoryKiB > maxMemoryKiB || p.Passes == 0 || p.Passes > maxPasses || p.Lanes == 0 || len(key) < 16 || len(key) > 64 || len(salt) < 8 {
			t.Errorf("%q gives %+v, %d and %d bytes", stored, p, len(salt), len(key))
		}
		again, salt2, key2, err := parsePHC(phc(p, salt, key))
		if err != nil || again != p || !bytes.Equal(salt, salt2) || !bytes.Equal(key, key2) {
			t.Errorf("%q means another thing when it is written again: %v", stored, err)
		}
	})
}
