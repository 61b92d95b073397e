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

// Keys are the API keys of a file. Each line of it is role:name:hash, where
// hash is the SHA-256 of the key in hex; empty lines and lines that begin with
// # are passed over. Keys are 256 random bits, so there is nothing to guess and
// a fast hash does. They are safe for concurrent use.
type Keys struct {
	path  string
	log   *slog.Logger
	state atomic.Pointer[keyFile]
}

// keyFile is one reading of the file.
type keyFile struct {
	text []byte
	keys []key
}

type key struct {
	caller
	hash [sha256.Size]byte
}

const (
	keyPrefix       = "usher_" // by it scanners for secrets can know one
	keysInterval    = 2 * time.Second
	maxKeyFileBytes = 1 << 20
)

// NewKey returns a new key of the role, and its line for the file. The name is
// for people and for the audit log.
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
		return fmt.Errorf("there is no role %q; there are viewer, operator and backend", role)
	case name == "" || len(name) > proto.MaxNameBytes:
		return fmt.Errorf("a name of %d bytes, not 1 to %d", len(name), proto.MaxNameBytes)
	case !utf8.ValidString(name) || strings.Contains(name, ":") || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("the name %q has a colon or a character that cannot be shown", name)
	}
	return nil
}

// OpenKeys reads the file. One without a key is an error, for nobody could
// call. While Run runs, the file is read again when it changes.
func OpenKeys(path string, log *slog.Logger) (*Keys, error) {
	k := &Keys{path: path, log: log}
	if log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if _, err := k.reload(); err != nil {
		return nil, err
	}
	if len(k.state.Load().keys) == 0 {
		return nil, fmt.Errorf("%s: no API key in it", path)
	}
	return k, nil
}

// Run follows the changes of the file until ctx ends. A file that cannot be
// read or makes no sense is logged, and the keys stay as they were; one that
// was emptied takes them all back.
func (k *Keys) Run(ctx context.Context) {
	tick := time.NewTicker(keysInterval)
	defer tick.Stop()
	told := "" // of a fault that lasts, one line
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := k.reload()
		switch {
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			k.log.Error("API keys not read; the old ones stay in use", "error", err)
		}
		if changed {
			k.log.Info("API keys read", "file", k.path, "keys", len(k.state.Load().keys))
		}
	}
}

// reload reads the file and reports whether it was another than before.
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

// parseKey does not quote the line: somebody may have put the key itself there.
func parseKey(line string) (key, error) {
	parts := strings.Split(line, ":")
	if len(parts) != 3 {
		return key{}, errors.New("not of the form role:name:hash")
	}
	k := key{caller: caller{role: Role(parts[0]), name: parts[1]}}
	if err := checkKeyName(k.role, k.name); err != nil {
		return key{}, err
	}
	hash, err := hex.DecodeString(parts[2])
	if err != nil || len(hash) != sha256.Size {
		return key{}, errors.New("the hash is not a SHA-256 in hex")
	}
	copy(k.hash[:], hash)
	return k, nil
}

// find returns the holder of a key, in a time that does not depend on how much
// of it is right.
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
