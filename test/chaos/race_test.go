//go:build race

package chaos

// racing reports that the race detector is on. A schedule takes ten times as long with it.
const racing = true
