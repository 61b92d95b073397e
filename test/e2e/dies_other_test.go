//go:build !linux

package e2e

import "syscall"

// diesWithTest is a wish that only Linux fulfils.
func diesWithTest() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
