//go:build !linux

package upgrade

import "syscall"

// killedWithParent returns attributes without the kill, which only Linux supports.
func killedWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
