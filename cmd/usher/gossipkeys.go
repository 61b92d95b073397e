package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/usher-broker/usher/broker/process"
)

func newGossipKey() string {
	key := make([]byte, process.GossipKeyBytes)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

// gossipCmd prints a key, or does one of the three steps that replace a key.
type gossipCmd struct {
	File string `env:"-" help:"File of the keys, to change the key in three steps: add, use and prune. Do each step on all machines, and wait until every member has read the file before the next." type:"path" placeholder:"FILE"`
	Step string `env:"-" help:"add: make a key that decrypts only. use: encrypt with it. prune: remove the others." enum:",add,use,prune" default:"" placeholder:"STEP"`
}

func (c gossipCmd) Run(e *process.Env) error {
	switch {
	case c.File == "" && c.Step == "":
		_, err := fmt.Fprintln(e.Out, newGossipKey())
		return err
	case c.File == "" || c.Step == "":
		return process.FlagError{Flag: "--file", Err: errors.New("and --step are required together")}
	}
	lines, err := process.GossipKeyLines(c.File)
	if err != nil {
		return process.FlagError{Flag: "--file", Err: err}
	}
	switch c.Step {
	case "add":
		if len(lines) > 1 {
			return fmt.Errorf("%s has %d keys already: finish the last replacement first, with --step prune", c.File, len(lines))
		}
		lines = append(lines, newGossipKey())
	case "use":
		if len(lines) != 2 {
			return fmt.Errorf("%s has %d keys, not 2: do --step add first", c.File, len(lines))
		}
		slices.Reverse(lines)
	case "prune":
		lines = lines[:1]
	}
	if err := replaceFile(c.File, strings.Join(lines, "\n")+"\n"); err != nil {
		return err
	}
	fmt.Fprintf(e.Out, "%s: %d keys, the first encrypts\n", c.File, len(lines))
	return nil
}

// createSecret writes a line to a new file that only its owner can read. It fails
// if the file exists.
func createSecret(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line)
	return errors.Join(err, f.Close())
}

// replaceFile replaces a file atomically and keeps its mode.
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
