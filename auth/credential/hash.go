package credential

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/alexedwards/argon2id"
)

// Limits of a password, in bytes as it is hashed. Passwords are compared byte by byte,
// without Unicode normalization.
const (
	minPasswordBytes = 1
	maxPasswordBytes = 1024
)

// hashParams returns the parameters of new hashes: the first recommendation of OWASP for
// Argon2id, 19 MiB and two passes in one thread.
func hashParams() *argon2id.Params {
	return &argon2id.Params{Memory: 19456, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
}

// HashLine returns a line for the users file: the user's name, a colon and a new hash of
// the password. It refuses names that contain a colon or begin with #.
func HashLine(user, password string) (string, error) {
	if err := checkFileName(user); err != nil {
		return "", fmt.Errorf("name %w", err)
	}
	if err := checkPassword(password); err != nil {
		return "", err
	}
	hash, err := argon2id.CreateHash(password, hashParams())
	if err != nil {
		return "", err
	}
	return user + ":" + hash, nil
}

func checkPassword(password string) error {
	if len(password) < minPasswordBytes || len(password) > maxPasswordBytes {
		return fmt.Errorf("password must have %d to %d bytes", minPasswordBytes, maxPasswordBytes)
	}
	return nil
}

// hashed is the hash of a password in a users file.
type hashed struct {
	text    string
	threads int64
}

// parseHash parses a hash. It limits what a login can cost, to 64 MiB, 10 passes and 4
// threads, and accepts each hash in one spelling only.
func parseHash(text string) (hashed, error) {
	if len(text) > 512 {
		return hashed{}, errors.New("hash is too long")
	}
	p, salt, key, err := argon2id.DecodeHash(text)
	if err != nil || !strings.HasPrefix(text, spelling(p)) { // the library ignores text after a number
		return hashed{}, errors.New("hash is not of the form $argon2id$v=19$m=19456,t=2,p=1$salt$key")
	}
	switch {
	case p.Memory < 8*uint32(p.Parallelism) || p.Memory > 64<<10:
		return hashed{}, fmt.Errorf("hash with m=%d KiB: must be 8 for each thread to %d", p.Memory, 64<<10)
	case p.Iterations < 1 || p.Iterations > 10:
		return hashed{}, fmt.Errorf("hash with t=%d passes: must be 1 to 10", p.Iterations)
	case p.Parallelism < 1 || p.Parallelism > 4:
		return hashed{}, fmt.Errorf("hash with p=%d threads: must be 1 to 4", p.Parallelism)
	case len(salt) < 8 || len(salt) > 64 || len(key) < 16 || len(key) > 64:
		return hashed{}, fmt.Errorf("hash with a salt of %d and a key of %d bytes: must be 8 to 64 and 16 to 64", len(salt), len(key))
	}
	return hashed{text: text, threads: int64(min(int(p.Parallelism), runtime.GOMAXPROCS(0)))}, nil
}

// spelling returns the beginning of a hash with the parameters.
func spelling(p *argon2id.Params) string {
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$", p.Memory, p.Iterations, p.Parallelism)
}

// dummyHash returns a hash that no accepted password has, with the parameters of new hashes.
func dummyHash() (hashed, error) {
	text, err := argon2id.CreateHash("", hashParams()) // the empty password is refused before it is hashed
	if err != nil {
		return hashed{}, err
	}
	return parseHash(text)
}
