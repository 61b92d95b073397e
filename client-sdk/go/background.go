package usher

import (
	"context"
	"sync"
	"time"
)

// afterFunc calls f in a goroutine of s.wg after d, unless stop is called before. The
// caller is a goroutine of s.wg, or holds s.mu while the session has not ended.
func (s *Session) afterFunc(d time.Duration, f func()) (stop func()) {
	s.wg.Add(1)
	t := time.AfterFunc(d, func() {
		defer s.wg.Done()
		f()
	})
	return s.forget(t.Stop)
}

// wakeAtEnd wakes the goroutines that wait on cond when ctx ends, unless stop is called
// before. s.mu is held, and the session has not ended.
func (s *Session) wakeAtEnd(ctx context.Context, cond *sync.Cond) (stop func()) {
	s.wg.Add(1)
	return s.forget(context.AfterFunc(ctx, func() {
		defer s.wg.Done()
		s.mu.Lock()
		defer s.mu.Unlock()
		cond.Broadcast()
	}))
}

// forget returns a function that calls stop, and removes from s.wg a goroutine that will
// not start.
func (s *Session) forget(stop func() bool) func() {
	return func() {
		if stop() {
			s.wg.Done()
		}
	}
}
