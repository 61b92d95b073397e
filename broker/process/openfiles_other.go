//go:build !unix

package process

import "errors"

// OpenFiles returns an error: this system has no limit of open files.
func OpenFiles() (uint64, error) {
	return 0, errors.New("this system has no limit of open files")
}
