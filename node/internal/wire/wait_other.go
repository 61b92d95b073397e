//go:build !unix

package wire

// canWait reports whether plain connections can be read and written without waiting. On
// this system all connections are opaque, and nothing below is called.
const canWait = false

func (r *reader) waitKernel() error        { panic("wire: no plain connections on this system") }
func (r *reader) fill(uintptr) (done bool) { return true }

func (t *batch) attempt(uintptr) (done bool) { return true }
