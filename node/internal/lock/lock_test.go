//go:build lockorder

package lock

import "testing"

type low struct{}

func (low) Rank() (int, string) { return 1, "low" }

type high struct{}

func (high) Rank() (int, string) { return 2, "high" }

func panics(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

func TestOrder(t *testing.T) {
	var a Mutex[low]
	var b, c Mutex[high]
	a.Lock()
	b.Lock()
	b.Unlock()
	a.Unlock()

	b.Lock()
	if v := panics(a.Lock); v == nil {
		t.Error("a lower rank was locked under a higher one")
	}
	if v := panics(c.Lock); v == nil {
		t.Error("two locks of one rank were locked by one goroutine")
	}
	if !a.TryLock() {
		t.Error("TryLock waits for nothing, so it has no order")
	}
	a.Unlock()
	b.Unlock()
}

// A lock may be unlocked by another goroutine than the one that locked it.
func TestHandOver(t *testing.T) {
	l := new(int)
	Locked[high](l, false)
	done := make(chan struct{})
	go func() {
		defer close(done)
		Unlocked(l)
	}()
	<-done
	var m Mutex[low]
	m.Lock()
	m.Unlock()
	if n := len(table.locks); n != 0 {
		t.Errorf("%d goroutines hold locks, want none", n)
	}
}

func TestReaders(t *testing.T) {
	var m RWMutex[low]
	m.RLock()
	if v := panics(m.RLock); v == nil {
		t.Error("a reader locked twice")
	}
	m.RUnlock()
	m.Lock()
	m.Unlock()
}
