package process

import (
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Listen replaces the socket file of a process that has ended, and nothing else.
func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ops.sock")
	ln, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + path); err == nil {
		t.Error("the socket of a running process was replaced")
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // as when the process is killed
	ln.Close()
	if ln, err = Listen("unix:" + path); err != nil {
		t.Fatalf("a socket without a process was not replaced: %v", err)
	}
	ln.Close()

	file, empty := filepath.Join(dir, "file"), filepath.Join(dir, "empty")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, empty} {
		if ln, err := Listen("unix:" + path); err == nil {
			ln.Close()
			t.Errorf("%s was replaced", path)
		}
		if info, err := os.Stat(path); err != nil || info.Mode()&os.ModeSocket != 0 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}

// A request that does not end does not hold up the end of the process.
func TestCloseIsBounded(t *testing.T) {
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	s := Serve(ln, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(started)
		<-release
	}), slog.New(slog.DiscardHandler))
	go func() {
		if resp, err := http.Get("http://" + s.Addr()); err == nil {
			resp.Body.Close()
		}
	}()
	<-started
	closed := make(chan struct{})
	go func() {
		s.Close(50 * time.Millisecond)
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("Close has not returned")
	}
}
