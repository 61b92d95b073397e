package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/usher-broker/usher/broker/process"
)

func TestNodeKeyCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node.key")
	var out bytes.Buffer
	e := &process.Env{Out: &out, Err: new(bytes.Buffer)}
	if err := (nodeKeyCmd{Out: file, Node: "node-7"}).Run(e); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "node-7 ") {
		t.Errorf("the line for --node-keys is %q", out.String())
	}
	if _, err := process.ReadNodeKey(file); err != nil {
		t.Error(err)
	}
	if err := (nodeKeyCmd{Out: file, Node: "*"}).Run(e); err == nil {
		t.Error("an existing key was overwritten")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
