package lease

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// An end reaches the store at once. Many ends reach it in batches.
func TestEnds(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.store.delay = 10 * time.Millisecond
		var owners []*testOwner
		for i := range 1000 {
			owners = append(owners, r.add(fmt.Sprint("u", i)))
		}
		after(5500 * time.Millisecond)
		owners[0].end(proto.CloseKicked)
		after(20 * time.Millisecond)
		if rec, err := r.recordOf(owners[0]); !errors.Is(err, session.ErrEnded) || rec.Reason != proto.CloseKicked {
			r.Errorf("%+v, %v", rec, err)
		}
		for _, o := range owners[1:] {
			o.end(proto.CloseSessionEnded)
		}
		after(200 * time.Millisecond)
		for _, o := range owners {
			if _, err := r.recordOf(o); !errors.Is(err, session.ErrEnded) {
				r.Fatal(err)
			}
		}
		if n := r.store.count("EndAll"); n > 1+1+1000/endBatch+1 {
			r.Errorf("%d calls for 1000 ends", n)
		}
		after(time.Minute)
		if n := r.store.count("EndAll"); n > 1+1+1000/endBatch+1 {
			r.Errorf("%d calls, although the store knew", n)
		}
	})
}

// Ends that the store did not take are repeated, also by an otherwise empty Keeper.
func TestEndsDuringOutage(t *testing.T) {
	inBubble(t, func(r *rig) {
		o, o2 := r.add("ada"), r.add("bob")
		after(5500 * time.Millisecond)
		r.store.down.Store(true)
		o.end(proto.CloseKicked)
		after(30 * time.Second)
		o2.end(proto.CloseKicked)
		after(30 * time.Second)
		if n := r.store.count("EndAll"); n > 1 {
			r.Errorf("%d calls during an outage", n)
		}
		r.store.down.Store(false)
		after(time.Second)
		for _, o := range []*testOwner{o, o2} {
			if _, err := r.recordOf(o); !errors.Is(err, session.ErrEnded) {
				r.Error(err)
			}
		}
	})
}

// SendEnds stops at the first batch for which the store has no answer.
func TestSendEndsStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 3 * endBatch {
			r.add(fmt.Sprint("u", i)).end(proto.CloseKicked)
		}
		r.store.down.Store(true)
		if err := r.keeper.SendEnds(t.Context()); !errors.Is(err, session.ErrUnavailable) || r.store.count("EndAll") != 1 {
			t.Errorf("%v after %d calls", err, r.store.count("EndAll"))
		}
	})
}

// An end under an epoch that is no longer the current one changes nothing, and is not
// repeated.
func TestEndAfterMove(t *testing.T) {
	inBubble(t, func(r *rig) {
		o := r.add("ada")
		r.takeOver(o, false)
		o.end(proto.CloseKicked)
		after(time.Minute)
		if rec, err := r.recordOf(o); err != nil || rec.Node != "node-2" {
			r.Errorf("%+v, %v", rec, err)
		}
		if n := r.store.count("EndAll"); n != 1 {
			r.Errorf("%d calls", n)
		}
	})
}

// A session that came back, and ended again while its first end was on the way, ends
// under its last epoch.
func TestEndTwice(t *testing.T) {
	inBubble(t, func(r *rig) {
		o := r.add("ada")
		after(5500 * time.Millisecond)
		r.takeOver(o, false)
		release := r.store.holdCalls("EndAll")
		o.end(proto.CloseKicked)
		synctest.Wait()
		rec, err := r.store.Reassign(r.Context(), session.NewRequest(), session.Record{ID: o.lease.ID, Epoch: 2}, "node-1", time.Hour)
		if err != nil {
			r.Fatal(err)
		}
		again := &testOwner{rig: r, record: rec, lease: Lease{ID: rec.ID, Epoch: rec.Epoch}}
		r.keeper.Add(&again.lease, again)
		again.end(proto.CloseSessionEnded)
		release()
		after(2 * r.keeper.tick)
		if rec, err := r.recordOf(o); !errors.Is(err, session.ErrEnded) || rec.Reason != proto.CloseSessionEnded {
			r.Errorf("%+v, %v", rec, err)
		}
	})
}

// FlushEnds works without Run, repeats until the store answers, and gives up with its
// context.
func TestFlushEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		o := r.add("ada")
		o.end(proto.CloseKicked)
		r.store.down.Store(true)
		if err := r.keeper.SendEnds(t.Context()); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("SendEnds: %v", err)
		}
		late := errors.New("late")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, late)
		defer cancel()
		if err := r.keeper.FlushEnds(ctx); !errors.Is(err, late) {
			t.Errorf("FlushEnds: %v", err)
		}
		time.AfterFunc(time.Second, func() { r.store.down.Store(false) })
		if err := r.keeper.FlushEnds(t.Context()); err != nil {
			t.Errorf("FlushEnds: %v", err)
		}
		if _, err := r.recordOf(o); !errors.Is(err, session.ErrEnded) {
			t.Error(err)
		}
	})
}
