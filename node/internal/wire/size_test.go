package wire

import (
	"testing"
	"unsafe"
)

// A server has many connections that do nothing: their size is their cost.
func TestSize(t *testing.T) {
	if n := unsafe.Sizeof(Conn{}); n > 208 {
		t.Errorf("a Conn has %d bytes, which is more than the size class of 208", n)
	} else {
		t.Logf("a Conn has %d bytes", n)
	}
}
