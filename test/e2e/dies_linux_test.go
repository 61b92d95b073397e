package e2e

import "syscall"

// diesWithTest has a process killed when the test process ends without
// cleaning up, as it does after a panic or a timeout.
func diesWithTest() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
