package process

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
)

// NewNodeKey makes a key that nodes sign their records with. It returns the text
// of the file for --node-key, and the public key for a line of --node-keys.
func NewNodeKey() (secret, public string, err error) {
	pub, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return "", "", err
	}
	return base64.StdEncoding.EncodeToString(private.Seed()), base64.StdEncoding.EncodeToString(pub), nil
}

// ReadNodeKey reads a file that has the secret of NewNodeKey.
func ReadNodeKey(path string) (ed25519.PrivateKey, error) {
	b, err := ReadFile(path, 1<<10)
	if err != nil {
		return nil, err
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s has no key: it must be %d bytes in base64; \"usher keys node\" makes one", path, ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
