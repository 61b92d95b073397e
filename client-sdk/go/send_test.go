package usher

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// Send waits at either limit, also while detached, until there is capacity. TrySend
// returns ErrFull.
func TestSendFull(t *testing.T) {
	bounds := map[string]func(*proto.Welcome){
		"messages": func(w *proto.Welcome) { w.MaxUnackedMessages = 2 },
		"bytes":    func(w *proto.Welcome) { w.MaxMessageBytes, w.MaxUnackedBytes = 2, 2 },
	}
	for name, bound := range bounds {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				s, p := w.attachWith(w.config(), bound)
				send(t, s, "a", "b")
				if err := s.TrySendText("c"); !errors.Is(err, ErrFull) {
					t.Errorf("try: %v", err)
				}
				p.wire.cut()
				w.wantState(Detached)
				if err := s.TrySend([]byte("c")); !errors.Is(err, ErrFull) {
					t.Errorf("try while detached: %v", err)
				}
				sent := make(chan error, 1)
				go func() { sent <- s.SendText(context.Background(), "c") }()
				synctest.Wait()
				p = w.nodes["n1"].next().accept()
				p.welcome(func(wel *proto.Welcome) { wel.Resumed = true; bound(wel) })
				p.want("a", "b")
				synctest.Wait()
				if len(sent) > 0 {
					t.Fatalf("Send returned above the limit: %v", <-sent)
				}
				p.ack(1)
				if err := <-sent; err != nil {
					t.Errorf("send: %v", err)
				}
				p.want("c")
			})
		})
	}
}

// A welcome can also give capacity: by the messages that it confirms, by its limits,
// or by a new stream.
func TestSendWaitsForWelcome(t *testing.T) {
	for name, change := range map[string]func(*proto.Welcome){
		"confirms": func(w *proto.Welcome) { w.Resumed, w.Received = true, 1 },
		"allows":   func(w *proto.Welcome) { w.Resumed, w.MaxUnackedMessages = true, 2 },
		"resets":   func(w *proto.Welcome) { w.Stream, w.Reason = "s2", proto.ResetExpired },
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				s, p := w.attachWith(w.config(), func(wel *proto.Welcome) { wel.MaxUnackedMessages = 1 })
				send(t, s, "a")
				sent := make(chan error, 1)
				go func() { sent <- s.SendText(context.Background(), "b") }()
				synctest.Wait()
				p.wire.cut()
				p = w.nodes["n1"].next().accept()
				p.welcome(func(wel *proto.Welcome) { wel.MaxUnackedMessages = 1; change(wel) })
				if err := <-sent; err != nil {
					t.Errorf("send: %v", err)
				}
			})
		})
	}
}

func TestSendErrors(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attachWith(w.config(), func(wel *proto.Welcome) { wel.MaxUnackedMessages = 1 })
		for name, err := range map[string]error{
			"send": s.Send(t.Context(), make([]byte, 101)), "text": s.SendText(t.Context(), strings.Repeat("a", 101)),
			"try": s.TrySend(make([]byte, 101)), "volatile": s.SendVolatile(make([]byte, 101)),
		} {
			if !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s, too large: %v", name, err)
			}
		}
		for name, err := range map[string]error{
			"text": s.SendText(t.Context(), "\xff"), "try": s.TrySendText("\xff"), "volatile": s.SendVolatileText("\xff"),
		} {
			if !errors.Is(err, proto.ErrInvalidUTF8) {
				t.Errorf("%s, not UTF-8: %v", name, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Send(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before: %v", err)
		}
		send(t, s, strings.Repeat("a", 100))
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Send(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cancelled while waiting: %v", err)
		}
		waiting := make(chan error, 1)
		go func() { waiting <- s.Send(context.Background(), nil) }()
		synctest.Wait()
		p.close(proto.CloseKicked)
		if err := <-waiting; !errors.Is(err, ErrEnded) {
			t.Errorf("ended while waiting: %v", err)
		}
		for name, err := range map[string]error{
			"send": s.Send(t.Context(), nil), "try": s.TrySend(nil), "volatile": s.SendVolatile(nil),
		} {
			if !errors.Is(err, ErrEnded) {
				t.Errorf("%s, ended: %v", name, err)
			}
		}
		if n := s.Stats().Sent; n != 1 {
			t.Errorf("counted %d", n)
		}
	})
}

// The caller may change its data after Send.
func TestSendCopies(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		data := []byte("abc")
		if err := s.Send(t.Context(), data); err != nil {
			t.Fatal(err)
		}
		data[0] = 'x'
		p.want("abc")
		p.wire.cut()
		w.nodes["n1"].next().accept().resume(0)
	})
}

// Volatile messages keep their order relative to the others, and are dropped while the
// session is detached.
func TestVolatile(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		send(t, s, "a")
		if err := s.SendVolatileText("p"); err != nil {
			t.Error(err)
		}
		send(t, s, "b")
		p.want("a", "p", "b")
		p.wire.cut()
		w.wantState(Detached)
		if err := s.SendVolatileText("q"); err != nil {
			t.Error(err)
		}
		p = w.nodes["n1"].next().accept()
		p.resume(2)
		w.wantState(Attached)
		send(t, s, "c")
		p.want("c")
		if n := s.Stats().VolatileDropped; n != 1 {
			t.Errorf("dropped %d", n)
		}
	})
}

func TestVolatileWaiting(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attachWith(w.config(), func(wel *proto.Welcome) { wel.MaxMessageBytes, wel.MaxUnackedBytes = 1<<20, 1<<20 })
		if err := s.SendVolatile(make([]byte, 1<<20)); err != nil { // more than the wire can buffer
			t.Error(err)
		}
		synctest.Wait()
		for range 3 {
			if err := s.SendVolatile(make([]byte, 1<<20)); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		for i := range stream.MaxVolatiles {
			if err := s.SendVolatileText(string(rune('0' + i%10))); err != nil {
				t.Error(err)
			}
		}
		s.mu.Lock()
		waiting, size := s.conn.out.Volatiles()
		s.mu.Unlock()
		if waiting > stream.MaxVolatiles || size > stream.MaxVolatileBytes+1<<20 {
			t.Errorf("%d volatile messages of %d bytes wait", waiting, size)
		}
		if s.Stats().VolatileDropped == 0 {
			t.Error("none was dropped")
		}
		leave(s)
		_ = p
	})
}

// With concurrent senders every message arrives once, and the messages of each sender
// in order.
func TestSendConcurrently(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		const senders, each = 4, 50
		var all sync.WaitGroup
		for i := range senders {
			all.Go(func() {
				for n := range each {
					if err := s.Send(context.Background(), []byte{byte(i), byte(n)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		var next [senders]byte
		for n := range senders * each {
			_, b := p.read()
			m, err := proto.ParseMessage(b)
			if err != nil || m.Data[1] != next[m.Data[0]] {
				t.Fatalf("message %d is %x, %v", n, b, err)
			}
			next[m.Data[0]]++
			p.ack(uint64(n + 1))
		}
		all.Wait()
	})
}
