package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/usher-broker/usher/broker/cluster"
)

// maxGossipKeys bounds the keys in a file: each may be tried on each message.
const maxGossipKeys = 4

func newGossipKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

func parseGossipKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err == nil && len(key) != 32 {
		err = fmt.Errorf("has %d bytes", len(key))
	}
	if err != nil {
		return nil, fmt.Errorf("must be 32 bytes in base64, as «usher keys gossip» makes it: %w", err)
	}
	return key, nil
}

// readGossipKeys reads a file of keys, one a line: the first is the one to send
// by, all are understood.
func readGossipKeys(path string) (key []byte, others [][]byte, err error) {
	lines, err := gossipKeyLines(path)
	if err != nil {
		return nil, nil, err
	}
	for i, line := range lines {
		k, err := parseGossipKey(line)
		if err != nil {
			return nil, nil, fmt.Errorf("%s, key %d: %w", path, i+1, err)
		}
		if i == 0 {
			key = k
		} else {
			others = append(others, k)
		}
	}
	return key, others, nil
}

func gossipKeyLines(path string) ([]string, error) {
	b, err := readSmall(path, 4<<10)
	if err != nil {
		return nil, err
	}
	lines := strings.Fields(string(b))
	switch {
	case len(lines) == 0:
		return nil, fmt.Errorf("%s has no key: it must be 32 bytes in base64, as «usher keys gossip» makes it", path)
	case len(lines) > maxGossipKeys:
		return nil, fmt.Errorf("%s has %d keys; %d at most", path, len(lines), maxGossipKeys)
	}
	return lines, nil
}

// gossipKeyInterval is how often the file is looked at.
const gossipKeyInterval = 3 * time.Second

// followKeys has the member use the keys in the file when that changes, until
// ctx ends.
func followKeys(ctx context.Context, path string, c *cluster.Cluster, log *slog.Logger) {
	before, _ := gossipKeyLines(path)
	every(ctx, gossipKeyInterval, func() {
		lines, err := gossipKeyLines(path)
		if slices.Equal(lines, before) {
			return
		}
		before = lines
		if err == nil {
			var key []byte
			var others [][]byte
			if key, others, err = readGossipKeys(path); err == nil {
				err = c.SetKeys(key, others)
			}
		}
		if err != nil {
			log.Warn("the new gossip keys cannot be used; the old ones stay", "file", path, "error", err)
			return
		}
		log.Info("new gossip keys are in use", "file", path, "keys", len(lines))
	})
}

// every calls f at each interval, until ctx ends.
func every(ctx context.Context, interval time.Duration, f func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}

// gossipCmd prints a key, or takes one of the three steps to another.
type gossipCmd struct {
	File string `help:"File of the keys, to go over to another key in three steps: add, use and prune. Take each on all machines, and wait until every member has read the file, before the next." type:"path" placeholder:"FILE"`
	Step string `help:"add: make a key that is understood. use: send by it. prune: forget the others." enum:",add,use,prune" default:"" placeholder:"STEP"`
}

func (c gossipCmd) Run(e *env) error {
	switch {
	case c.File == "" && c.Step == "":
		_, err := fmt.Fprintln(e.out, newGossipKey())
		return err
	case c.File == "" || c.Step == "":
		return usageError{"--file", errors.New("and --step go together")}
	}
	lines, err := gossipKeyLines(c.File)
	if err != nil {
		return usageError{"--file", err}
	}
	switch c.Step {
	case "add":
		if len(lines) > 1 {
			return fmt.Errorf("%s has %d keys already: finish the last change with --step prune", c.File, len(lines))
		}
		lines = append(lines, newGossipKey())
	case "use":
		if len(lines) != 2 {
			return fmt.Errorf("%s has %d keys, not two: --step add comes first", c.File, len(lines))
		}
		slices.Reverse(lines)
	case "prune":
		lines = lines[:1]
	}
	if err := replaceFile(c.File, strings.Join(lines, "\n")+"\n"); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s: %d keys, the first is sent by\n", c.File, len(lines))
	return nil
}

// createSecret writes a line to a file that is not there yet, for its owner alone.
func createSecret(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line)
	return errors.Join(err, f.Close())
}

// replaceFile puts another file in the place of one, at once and with its mode.
func replaceFile(path, text string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".usher-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		if gone := os.Remove(f.Name()); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}
