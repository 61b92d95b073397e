//go:build lockorder

package lock

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
)

// held is a lock that a goroutine holds.
type held struct {
	lock  any
	order int
	name  string
}

// table holds all locks that are held, by goroutine.
var table = struct {
	mu    sync.Mutex
	locks map[uint64][]held
}{locks: map[uint64][]held{}}

// goroutine returns the id of the calling goroutine. Go has no function for it; the
// first line of a stack trace has the number.
func goroutine() uint64 {
	var buf [64]byte
	line := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	id, err := strconv.ParseUint(string(line[:bytes.IndexByte(line, ' ')]), 10, 64)
	if err != nil {
		panic(err)
	}
	return id
}

// check panics if the caller may not wait for a lock of the rank.
func check[R Rank]() {
	var r R
	order, name := r.Rank()
	id := goroutine()
	table.mu.Lock()
	defer table.mu.Unlock()
	for _, h := range table.locks[id] {
		if h.order >= order {
			panic(fmt.Sprintf("lock order: %s (%d) is locked while %s (%d) is held", name, order, h.name, h.order))
		}
	}
}

func record[R Rank](l any) {
	var r R
	order, name := r.Rank()
	id := goroutine()
	table.mu.Lock()
	defer table.mu.Unlock()
	table.locks[id] = append(table.locks[id], held{l, order, name})
}

// Locked records that the caller holds the lock l, which is not a mutex. try says that
// the caller did not wait for it.
func Locked[R Rank](l any, try bool) {
	if !try {
		check[R]()
	}
	record[R](l)
}

// Unlocked records that the lock l is free. Any goroutine may call it.
func Unlocked(l any) {
	id := goroutine()
	table.mu.Lock()
	defer table.mu.Unlock()
	if remove(id, l) {
		return
	}
	for other := range table.locks { // another goroutine locked it
		if remove(other, l) {
			return
		}
	}
}

// remove removes one entry of the lock. The caller holds table.mu.
func remove(id uint64, l any) bool {
	list := table.locks[id]
	i := slices.IndexFunc(list, func(h held) bool { return h.lock == l })
	if i < 0 {
		return false
	}
	if len(list) == 1 {
		delete(table.locks, id)
	} else {
		table.locks[id] = slices.Delete(list, i, i+1)
	}
	return true
}

// Mutex is a sync.Mutex of a rank.
type Mutex[R Rank] struct{ mu sync.Mutex }

// Lock locks m. It panics if the caller holds a lock of this rank or a higher one.
func (m *Mutex[R]) Lock() {
	check[R]()
	m.mu.Lock()
	record[R](m)
}

// TryLock tries to lock m. It does not wait, so the order does not matter.
func (m *Mutex[R]) TryLock() bool {
	if !m.mu.TryLock() {
		return false
	}
	record[R](m)
	return true
}

// Unlock unlocks m.
func (m *Mutex[R]) Unlock() {
	Unlocked(m)
	m.mu.Unlock()
}

// RWMutex is a sync.RWMutex of a rank.
type RWMutex[R Rank] struct{ mu sync.RWMutex }

// Lock locks m for writing. It panics like Mutex.Lock.
func (m *RWMutex[R]) Lock() {
	check[R]()
	m.mu.Lock()
	record[R](m)
}

// Unlock undoes Lock.
func (m *RWMutex[R]) Unlock() {
	Unlocked(m)
	m.mu.Unlock()
}

// RLock locks m for reading. It panics like Mutex.Lock: a reader that locks twice can
// wait for ever behind a writer.
func (m *RWMutex[R]) RLock() {
	check[R]()
	m.mu.RLock()
	record[R](m)
}

// RUnlock undoes RLock.
func (m *RWMutex[R]) RUnlock() {
	Unlocked(m)
	m.mu.RUnlock()
}
