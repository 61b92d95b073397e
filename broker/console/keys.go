package console

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/usher-broker/usher/proto"
)

// Keys are the API keys of a file. Each line of the file is role:name:hash, where hash is
// the SHA-256 of the key in hex. Empty lines and lines that begin with # are ignored. A
// key has 256 random bits, so it cannot be guessed, and a fast hash is enough. Keys is
// safe for concurrent use.
type Keys struct {
	path  string
	log   *slog.Logger
	state atomic.Pointer[keyFile]
}

// keyFile is the content of the file at one time.
type keyFile struct {
	text []byte
	keys []key
}

type key struct {
	caller
	hash [sha256.Size]byte
}

const (
	keyPrefix       = "usher_" // by which scanners for secrets recognise a key
	keysInterval    = 2 * time.Second
	maxKeyFileBytes = 1 << 20
)

// NewKey returns a new key of the role, and its line for the file. name identifies the
// holder to people and in the audit log.
func NewKey(role, name string) (secret, line string, err error) {
	if err := checkKeyName(Role(role), name); err != nil {
		return "", "", err
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	secret = keyPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	hash := sha256.Sum256([]byte(secret))
	return secret, fmt.Sprintf("%s:%s:%x", role, name, hash), nil
}

func checkKeyName(role Role, name string) error {
	switch {
	case !slices.Contains(Roles, role):
		return fmt.Errorf("unknown role %q; the roles are viewer, operator and backend", role)
	case name == "" || len(name) > proto.MaxNameBytes:
		return fmt.Errorf("the name has %d bytes; it must have 1 to %d", len(name), proto.MaxNameBytes)
	case !utf8.ValidString(name) || strings.Contains(name, ":") || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("the name %q contains a colon, a control character or invalid UTF-8", name)
	}
	return nil
}

// OpenKeys reads the file. It returns an error if the file has no key, because then no
// caller could use the API. While Run runs, the file is read again when it changes.
func OpenKeys(path string, log *slog.Logger) (*Keys, error) {
	k := &Keys{path: path, log: log}
	if log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if _, err := k.reload(); err != nil {
		return nil, err
	}
	if len(k.state.Load().keys) == 0 {
		return nil, fmt.Errorf("%s: the file has no API key; make one with usher keys api", path)
	}
	return k, nil
}

// Run reads the file again whenever it changes, until ctx is done. If the file cannot be
// read or is not valid, Run logs the error once, and the keys stay as they are. If the
// file has become empty, no key is valid any more.
func (k *Keys) Run(ctx context.Context) {
	tick := time.NewTicker(keysInterval)
	defer tick.Stop()
	logged := "" // the error that was logged last, so that a lasting one is logged once
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := k.reload()
		switch {
		case err == nil:
			logged = ""
		case err.Error() != logged:
			logged = err.Error()
			k.log.Error("cannot read the API keys; the old ones stay in use", "error", err)
		}
		if changed {
			k.log.Info("API keys read", "file", k.path, "keys", len(k.state.Load().keys))
		}
	}
}

// reload reads the file and reports whether it has changed.
func (k *Keys) reload() (changed bool, err error) {
	f, err := os.Open(k.path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFileBytes+1))
	if err != nil {
		return false, err
	}
	if len(text) > maxKeyFileBytes {
		return false, fmt.Errorf("%s: larger than %d bytes", k.path, maxKeyFileBytes)
	}
	if old := k.state.Load(); old != nil && bytes.Equal(old.text, text) {
		return false, nil
	}
	keys, err := parseKeys(text)
	if err != nil {
		return false, fmt.Errorf("%s: %w", k.path, err)
	}
	k.state.Store(&keyFile{text, keys})
	return true, nil
}

func parseKeys(text []byte) ([]key, error) {
	var keys []key
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// parseKey does not quote the line in its errors, because an operator may have put the
// key itself there.
func parseKey(line string) (key, error) {
	parts := strings.Split(line, ":")
	if len(parts) != 3 {
		return key{}, fmt.Errorf("%d fields separated by colons, want 3: role:name:hash", len(parts))
	}
	k := key{caller: caller{role: Role(parts[0]), name: parts[1]}}
	if err := checkKeyName(k.role, k.name); err != nil {
		return key{}, err
	}
	hash, err := hex.DecodeString(parts[2])
	if err != nil || len(hash) != sha256.Size {
		return key{}, errors.New("the hash is not a SHA-256 in hex (64 digits)")
	}
	copy(k.hash[:], hash)
	return k, nil
}

// find returns the holder of a key. The time it takes does not depend on how many bytes
// of the key are right.
func (k *Keys) find(secret string) (caller, bool) {
	hash := sha256.Sum256([]byte(secret))
	var c caller
	known := false
	for _, key := range k.state.Load().keys {
		if subtle.ConstantTimeCompare(hash[:], key.hash[:]) == 1 {
			c, known = key.caller, true
		}
	}
	return c, known
}
