//go:build !lockorder

package lock

import "sync"

// Mutex is a sync.Mutex of a rank.
type Mutex[R Rank] struct{ sync.Mutex }

// RWMutex is a sync.RWMutex of a rank.
type RWMutex[R Rank] struct{ sync.RWMutex }

// Locked records that the caller holds the lock l, which is not a mutex. try says that
// the caller did not wait for it.
func Locked[R Rank](l any, try bool) {}

// Unlocked records that the lock l is free. Any goroutine may call it.
func Unlocked(l any) {}
