//go:build !race

package chaos

// racing reports whether the race detector is on.
const racing = false
