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

// fileInterval is how often a file is looked at for changes.
const fileInterval = 2 * time.Second

// OpenKeySet reads the keys from a file that GenerateFile made: a JWK Set of
// Ed25519 keys with their private parts, each with the time it was made as
// "iat", in seconds. A file that others than its owner may open is refused.
// While Run runs, the file is read again when it changes.
func OpenKeySet(path string, overlap time.Duration, log *slog.Logger) (*KeySet, error) {
	k := &KeySet{path: path, overlap: overlap, log: log}
	_, err := k.reload()
	return k, err
}

// Run follows the changes of the file until ctx ends. A file that cannot be
// read or makes no sense is logged, and the keys stay as they were.
func (k *KeySet) Run(ctx context.Context) {
	if k.path == "" {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(fileInterval)
	defer tick.Stop()
	var told string // of a fault that lasts, one line
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := k.reload()
		switch {
		case err != nil && err.Error() != told:
			told = err.Error()
			k.log.Error("signing keys not read; the old ones stay in use", "error", err)
		case err == nil:
			told = ""
		}
		if changed {
			k.log.Info("signing keys read", "file", k.path, "keys", len(k.state.Load().all))
		}
	}
}

// reload reads the file and reports whether it was another than before.
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

// readPrivate reads a file that only its owner may open.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of what is open, whatever the name means by now
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s holds private keys and has mode %04o: others may open it; run «chmod 600 %[1]s»", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSetBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// GenerateFile makes a new key and returns its id. It writes a new file, open
// to its owner alone, and never over an existing one; with add it appends the
// key to an existing file instead, whose other keys stay as they are. Two that
// add at the same time may lose one of the keys.
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
		return "", fmt.Errorf("%s exists and is never overwritten; add a key to it, or name another file: %w", path, err)
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
		return fmt.Errorf("there is no file to add a key to: %w", err)
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

// replaceFile changes the file in one step: a reader sees the old one or the
// new one, and a crash leaves one of them.
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
