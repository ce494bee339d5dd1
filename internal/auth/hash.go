package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Argon2 are the parameters of argon2id.
type Argon2 struct {
	// MemoryKiB is the memory one hash takes.
	MemoryKiB uint32
	// Passes over that memory.
	Passes uint32
	// Lanes are worked on in parallel.
	Lanes uint8
}

// defaultArgon2 is the second recommended option of RFC 9106.
func defaultArgon2() Argon2 { return Argon2{MemoryKiB: 64 << 10, Passes: 3, Lanes: 4} }

const (
	saltLength, keyLength = 16, 32
	// parallelHashes bounds the memory that people who log in can take.
	parallelHashes = 2
	// hashWait is how long a login waits for its turn.
	hashWait = 10 * time.Second
	// Nobody but the server writes hashes; all the same a broken one must not take all memory.
	maxMemoryKiB, maxPasses = 1 << 20, 64
)

// hasher makes and checks argon2id hashes in PHC form, a few at a time.
type hasher struct {
	params Argon2
	turns  chan struct{}
}

func newHasher(params Argon2) *hasher {
	if params == (Argon2{}) {
		params = defaultArgon2()
	}
	return &hasher{params: params, turns: make(chan struct{}, parallelHashes)}
}

// hash gives the PHC string of a password under a new salt.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltLength)
	rand.Read(salt) // It never fails: the program ends instead.
	key, err := h.key(ctx, password, salt, h.params, keyLength)
	if err != nil {
		return "", err
	}
	return phc(h.params, salt, key), nil
}

// decoy gives a hash that no password has, and that takes as long to check as any.
func (h *hasher) decoy() string {
	random := make([]byte, saltLength+keyLength)
	rand.Read(random)
	return phc(h.params, random[:saltLength], random[saltLength:])
}

// verify says whether the password has that hash, and whether the hash was made with other parameters than today's.
func (h *hasher) verify(ctx context.Context, password, stored string) (right, outdated bool, err error) {
	params, salt, want, err := parsePHC(stored)
	if err != nil {
		return false, false, err
	}
	key, err := h.key(ctx, password, salt, params, uint32(len(want)))
	if err != nil {
		return false, false, err
	}
	return subtle.ConstantTimeCompare(key, want) == 1, params != h.params, nil
}

func (h *hasher) key(ctx context.Context, password string, salt []byte, p Argon2, length uint32) ([]byte, error) {
	timer := time.NewTimer(hashWait)
	defer timer.Stop()
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	case <-timer.C:
		return nil, apierrors.NewTooManyRequests("too many people log in right now; try again", 1)
	case <-ctx.Done():
		return nil, fmt.Errorf("cannot check a password: %w", ctx.Err())
	}
	return argon2.IDKey([]byte(password), salt, p.Passes, p.MemoryKiB, p.Lanes, length), nil
}

func phc(p Argon2, salt, key []byte) string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.MemoryKiB, p.Passes, p.Lanes, b64(salt), b64(key))
}

// parsePHC reads what phc wrote. Its errors never quote the hash.
func parsePHC(s string) (p Argon2, salt, key []byte, err error) {
	parts := strings.Split(s, "$")
	broken := func() (Argon2, []byte, []byte, error) {
		return Argon2{}, nil, nil, fmt.Errorf("cannot read a stored password hash: set the password again")
	}
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return broken()
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.MemoryKiB, &p.Passes, &p.Lanes); err != nil {
		return broken()
	}
	if p.MemoryKiB == 0 || p.MemoryKiB > maxMemoryKiB || p.Passes == 0 || p.Passes > maxPasses || p.Lanes == 0 {
		return broken()
	}
	if salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(salt) < 8 {
		return broken()
	}
	if key, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(key) < 16 || len(key) > 64 {
		return broken()
	}
	return p, salt, key, nil
}
