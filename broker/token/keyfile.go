package token

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// fileInterval is how often a file is checked for changes.
const fileInterval = 2 * time.Second

// OpenKeySet reads the keys from a file that GenerateFile made: a JWK Set of Ed25519
// keys with their private parts, each with the time when it was made as "iat", in
// seconds. It returns an error if users other than the owner may open the file. While
// Run runs, the file is read again when it changes.
func OpenKeySet(path string, overlap time.Duration, log *slog.Logger) (*KeySet, error) {
	k := &KeySet{path: path, overlap: overlap, log: log}
	_, err := k.reload()
	return k, err
}

// Run reads the file again whenever it changes, until ctx is done. If the file cannot
// be read or is not valid, Run logs the error once, and the keys stay as they are.
func (k *KeySet) Run(ctx context.Context) {
	if k.path == "" {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(fileInterval)
	defer tick.Stop()
	var logged string // the error that was logged last, so that a lasting one is logged once
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := k.reload()
		switch {
		case err != nil && err.Error() != logged:
			logged = err.Error()
			k.log.Error("cannot read the signing keys; the old ones stay in use", "error", err)
		case err == nil:
			logged = ""
		}
		if changed {
			k.log.Info("signing keys read", "file", k.path, "keys", len(k.state.Load().all))
		}
	}
}

// reload reads the file and reports whether it has changed.
func (k *KeySet) reload() (changed bool, err error) {
	file, err := readPrivate(k.path)
	if err != nil {
		return false, err
	}
	if old := k.state.Load(); old != nil && bytes.Equal(old.file, file) {
		return false, nil
	}
	state, err := readKeys(file)
	if err != nil {
		return false, fmt.Errorf("%s: %w", k.path, err)
	}
	k.state.Store(state)
	return true, nil
}

// readPrivate reads a file. It returns an error if users other than its owner may open
// the file.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of the open file: the name may have changed its meaning
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s holds private keys and has mode %04o, so other users may open it; run `chmod 600 %[1]s`", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSetBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// GenerateFile makes a new key and returns its id. It writes the key to a new file
// with mode 0600, and never overwrites a file. If add is set, it adds the key to an
// existing file instead, and leaves the other keys there as they are. Two processes
// that add a key at the same time may lose one of the two.
func GenerateFile(path string, add bool) (kid string, err error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	key := newJWK(private, time.Now())
	if add {
		return key.ID, addKey(path, key)
	}
	file, err := encodeSet(key)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("%s exists, and is not overwritten; add a key to it, or name another file: %w", path, err)
	}
	if err != nil {
		return "", err
	}
	if err := writeAndClose(f, file); err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	return key.ID, nil
}

func addKey(path string, key jwk) error {
	file, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no file to add a key to: %w", err)
	}
	if err != nil {
		return err
	}
	if _, err := readKeys(file); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var set jwkSet
	if err := json.Unmarshal(file, &set); err != nil {
		return fmt.Errorf("%s: %w", path, withoutInput(err))
	}
	raw, err := json.Marshal(key)
	if err != nil {
		return err
	}
	set.Keys = append(set.Keys, raw)
	if file, err = json.Marshal(set); err != nil {
		return err
	}
	return replaceFile(path, append(file, '\n'))
}

// replaceFile replaces the file atomically: a reader gets the old content or the new
// one, also after a crash.
func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // with mode 0600
	if err != nil {
		return err
	}
	err = writeAndClose(f, content)
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func writeAndClose(f *os.File, b []byte) error {
	_, err := f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
