package process

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/proto"
)

// A key file that changes between the start of a process and the moment at which it
// begins to follow the file is read again. A file that cannot be used is reported
// once, and used as soon as it can be.
func TestFollowGossipKeys(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the interval at which files are read")
	}
	newKey := func() []byte {
		key := make([]byte, GossipKeyBytes)
		_, _ = rand.Read(key)
		return key
	}
	old, next := newKey(), newKey()
	file := filepath.Join(t.TempDir(), "gossip.key")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("garbage")
	cfg := cluster.Config{
		Bind: "127.0.0.1:0", Label: "test", Key: old, Logger: slog.New(slog.DiscardHandler),
		Self: proto.Peer{ID: "auth-1", Role: proto.RoleAuth},
	}
	c, err := cluster.Join(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lines := make(chan string, 100)
	defer Start(func(ctx context.Context) {
		FollowGossipKeys(ctx, file, cfg, c, slog.New(slog.NewTextHandler(lineWriter(lines), nil)))
	})()
	expect := func(want string) {
		t.Helper()
		select {
		case line := <-lines:
			if !strings.Contains(line, want) {
				t.Fatalf("logged %q, want %q", line, want)
			}
		case <-time.After(10 * gossipKeyInterval):
			t.Fatalf("nothing was logged, want %q", want)
		}
	}
	expect("cannot use the new gossip keys")
	write(base64.StdEncoding.EncodeToString(next) + "\n" + base64.StdEncoding.EncodeToString(old))
	expect("new gossip keys in use")
}

type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}
