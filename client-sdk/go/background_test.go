package usher

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The end of the session waits for what has begun in the background.
func TestEndWaitsForTheBackground(t *testing.T) {
	for name, start := range map[string]func(s *Session){
		"timer": func(s *Session) {
			s.afterFunc(time.Minute, func() { time.Sleep(59 * time.Minute) })
		},
		"end of a context": func(s *Session) {
			ctx, cancel := context.WithCancel(context.Background())
			s.wakeAtEnd(ctx, sync.NewCond(&s.mu))
			time.AfterFunc(time.Hour, cancel)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, began := &Session{}, time.Now()
				start(s)
				s.wg.Wait()
				if waited := time.Since(began); waited != time.Hour {
					t.Errorf("waited %s", waited)
				}
			})
		})
	}
}

// It does not wait for what was stopped before it began.
func TestEndDoesNotWaitForTheStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := &Session{}, time.Now()
		for _, stop := range []func(){
			s.afterFunc(time.Minute, func() { t.Error("the timer ran") }),
			s.wakeAtEnd(t.Context(), sync.NewCond(&s.mu)),
		} {
			stop()
			stop() // without effect
		}
		s.wg.Wait()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited %s", waited)
		}
	})
}
