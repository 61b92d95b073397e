//go:build unix

package main

import "syscall"

// openFiles returns how many files a process may open. Go raises the limit to
// the highest it may have.
func openFiles() (uint64, error) {
	var l syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	return uint64(l.Cur), err
}
