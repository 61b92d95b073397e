//go:build unix

package process

import "syscall"

// OpenFiles returns how many files the process may open. Go raises the limit to
// the highest that is allowed.
func OpenFiles() (uint64, error) {
	var l syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	return uint64(l.Cur), err
}
