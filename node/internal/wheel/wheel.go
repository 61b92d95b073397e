// Package wheel provides timers for many items: one timer of the runtime and one lock
// serve all of them, and nothing scans the items that are not due.
package wheel

import (
	"container/heap"
	"context"
	"math"
	"time"

	"github.com/usher-broker/usher/node/internal/lock"
)

// Item is an entry of a Wheel. Embed it or keep it beside what it stands for; it must
// not be copied while it is set. It takes 16 bytes besides Value, and 8 more in its
// bucket. The zero Item is not set. An Item belongs to one Wheel at a time.
type Item[T any] struct {
	Value T

	bucket *bucket[T] // nil if the item is not set
	index  int        // in bucket.items
}

// Wheel holds items by the time when they are due, in buckets as wide as its step. An
// item is due at the end of its bucket, so up to one step late and never early. All
// methods are safe for concurrent use. No method calls other code with the lock held,
// so callers may hold locks of their own.
type Wheel[T any] struct {
	step  time.Duration
	start time.Time     // slot 0
	wake  chan struct{} // has a value when the first bucket has changed to an earlier one

	mu      lock.Mutex[lock.Leaf]
	buckets map[int64]*bucket[T]
	order   slotHeap // the slots of buckets, which may be empty
	count   int      // items that are set
}

// bucket holds the items that are due at the same slot.
type bucket[T any] struct {
	slot  int64
	items []*Item[T]
}

// New returns an empty wheel whose resolution is step, which must be positive.
func New[T any](step time.Duration) *Wheel[T] {
	return &Wheel[T]{
		step:    step,
		start:   time.Now(),
		wake:    make(chan struct{}, 1),
		buckets: make(map[int64]*bucket[T]),
	}
}

// slot returns the first slot that does not end before at. Times before the start of
// the wheel, such as the zero time, have slot 0: they are due at once.
func (w *Wheel[T]) slot(at time.Time) int64 {
	d := at.Sub(w.start) // by the monotonic clock, if at has a reading of it
	if d <= 0 {
		return 0
	}
	d = min(d, math.MaxInt64-w.step) // rounded up, it is still a Duration
	slot := int64(d / w.step)
	if d%w.step > 0 {
		slot++
	}
	return slot
}

// Set makes the item due at the given time. If it is set already it moves. The cost
// does not depend on the number of items.
func (w *Wheel[T]) Set(i *Item[T], at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(i, w.slot(at))
}

// Remove takes the item out. It does nothing if the item is not set.
func (w *Wheel[T]) Remove(i *Item[T]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remove(i)
}

// Len returns how many items are set.
func (w *Wheel[T]) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// Due takes out the items that are due, earliest first, and returns their values. The
// cost is that of the buckets that have passed and of the items that are due.
func (w *Wheel[T]) Due(now time.Time) []T {
	w.mu.Lock()
	defer w.mu.Unlock()
	var due []T
	passed := int64(max(now.Sub(w.start), 0) / w.step)
	for len(w.order) > 0 && w.order[0] <= passed {
		b := w.dropFirst()
		for _, i := range b.items {
			due = append(due, i.Value)
			i.bucket = nil
		}
		w.count -= len(b.items)
	}
	return due
}

// Next returns the time when the first item is due. It returns false if no item is
// set.
func (w *Wheel[T]) Next() (at time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.order) > 0 {
		if slot := w.order[0]; len(w.buckets[slot].items) > 0 {
			return w.start.Add(time.Duration(slot) * w.step), true
		}
		w.dropFirst() // its items were removed
	}
	return time.Time{}, false
}

// Run calls f with the items that are due, as soon as they are, until ctx ends. Then
// it returns the cause of ctx. It sleeps while nothing is due: an empty wheel causes no
// wake-ups. A wheel has at most one Run at a time, and Due takes items away from it.
func (w *Wheel[T]) Run(ctx context.Context, f func(now time.Time, due []T)) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		t.Stop()
		if at, ok := w.Next(); ok {
			t.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.wake:
		case now := <-t.C:
			if due := w.Due(now); len(due) > 0 {
				f(now, due)
			}
		}
	}
}

// set puts the item into the bucket of the slot. w.mu is held.
func (w *Wheel[T]) set(i *Item[T], slot int64) {
	if i.bucket != nil && i.bucket.slot == slot {
		return
	}
	w.remove(i)
	b := w.buckets[slot]
	if b == nil {
		b = &bucket[T]{slot: slot}
		w.buckets[slot] = b
		heap.Push(&w.order, slot)
		if w.order[0] == slot {
			w.signal()
		}
	}
	i.bucket, i.index = b, len(b.items)
	b.items = append(b.items, i)
	w.count++
}

// remove takes the item out of its bucket, if it is in one. The bucket stays, even
// if it is empty, until its slot has passed: items often come back to it. w.mu is held.
func (w *Wheel[T]) remove(i *Item[T]) {
	b := i.bucket
	if b == nil {
		return
	}
	last := len(b.items) - 1
	b.items[i.index] = b.items[last]
	b.items[i.index].index = i.index
	b.items[last] = nil
	if b.items = b.items[:last]; last == 0 {
		b.items = nil
	}
	i.bucket = nil
	w.count--
}

// dropFirst removes the earliest bucket and returns it. w.mu is held.
func (w *Wheel[T]) dropFirst() *bucket[T] {
	slot := heap.Pop(&w.order).(int64)
	b := w.buckets[slot]
	delete(w.buckets, slot)
	return b
}

// signal wakes Run, because an item is due earlier than the one it waits for.
func (w *Wheel[T]) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
