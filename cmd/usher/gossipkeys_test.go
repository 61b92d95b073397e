package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/usher-broker/usher/broker/process"
)

func TestGossipKeySteps(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gossip.key")
	if err := os.WriteFile(file, []byte(newGossipKey()+"\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	first, others, err := process.ReadGossipKeys(file)
	if err != nil || len(first) != 32 || len(others) != 0 {
		t.Fatal(first, others, err)
	}
	step := func(name string) error {
		var out bytes.Buffer
		return gossipCmd{File: file, Step: name}.Run(&process.Env{Out: &out})
	}
	if step("use") == nil {
		t.Error("a step to a missing key succeeded")
	}
	if err := step("add"); err != nil {
		t.Fatal(err)
	}
	if step("add") == nil {
		t.Error("a third key was added")
	}
	key, others, err := process.ReadGossipKeys(file)
	if err != nil || !bytes.Equal(key, first) || len(others) != 1 {
		t.Fatal(key, others, err)
	}
	second := others[0]
	if err := step("use"); err != nil {
		t.Fatal(err)
	}
	key, others, err = process.ReadGossipKeys(file)
	if err != nil || !bytes.Equal(key, second) || len(others) != 1 || !bytes.Equal(others[0], first) {
		t.Fatal(key, others, err)
	}
	if err := step("prune"); err != nil {
		t.Fatal(err)
	}
	key, others, err = process.ReadGossipKeys(file)
	if err != nil || !bytes.Equal(key, second) || len(others) != 0 {
		t.Fatal(key, others, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode of the file is %v, %v", info.Mode(), err)
	}
	for _, content := range []string{"", "short", newGossipKey() + "\nshort", strings.Repeat(newGossipKey()+"\n", 5), strings.Repeat(" ", 5000)} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := process.ReadGossipKeys(file); err == nil {
			t.Errorf("%.20q was accepted", content)
		}
	}
}
