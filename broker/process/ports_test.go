package process

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
)

func TestListenTakesTheFirstFreePort(t *testing.T) {
	const first = 21_480
	addr := fmt.Sprintf("127.0.0.1:%d-%d", first, first+2)
	var ports []int
	for range 3 {
		ln, err := ListenTCP(addr)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	if ports[0] != first || ports[1] != first+1 || ports[2] != first+2 {
		t.Errorf("bound %v", ports)
	}
	if ln, err := ListenTCP(addr); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a fourth of three: %v, %v", ln, err)
	}
	for _, addr := range []string{":7000-", ":-7000", ":7001-7000", ":0-5", ":7000-70000", ":1-5000", ":a-b"} {
		if ln, err := ListenTCP(addr); err == nil {
			ln.Close()
			t.Errorf("%q was taken", addr)
		}
	}
}
