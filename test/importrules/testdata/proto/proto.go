// Package proto breaks the import rules, as a fixture for the test of the checker.
package proto

import (
	_ "encoding/json"

	_ "golang.org/x/sync/errgroup"

	_ "github.com/usher-broker/usher/auth"
)
