//go:build race

package chaos

// The race detector makes a schedule take ten times as long.
const racing = true
