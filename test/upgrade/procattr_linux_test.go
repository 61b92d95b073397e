package upgrade

import "syscall"

// killedWithParent returns attributes with which the kernel kills a process when
// the test process ends without cleaning up, as after a panic or a timeout.
func killedWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
