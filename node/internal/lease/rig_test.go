package lease

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testInterval = 20 * time.Second
	testTTL      = 2 * time.Minute
	testTimeout  = 800 * time.Millisecond
)

// testStore is a store in memory whose calls take a while, can fail and can be held.
type testStore struct {
	session.Store
	delay time.Duration
	down  atomic.Bool
	calls sync.Map // counts by method, *atomic.Int64

	mu   sync.Mutex
	hold map[string]chan struct{} // calls of the method wait until it is closed
	fail map[string]error         // result of the method
}

func newTestStore() *testStore {
	return &testStore{Store: memory.New(time.Now), hold: make(map[string]chan struct{}), fail: make(map[string]error)}
}

// begin begins a call. It returns an error if the store is down or ctx ends first.
func (s *testStore) begin(ctx context.Context, method string) error {
	s.counter(method).Add(1)
	s.mu.Lock()
	hold, err := s.hold[method], s.fail[method]
	s.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if err != nil {
		return err
	}
	if s.down.Load() {
		return session.ErrUnavailable
	}
	if ctx.Err() != nil || s.delay > 0 && !pause(ctx, s.delay) {
		return fmt.Errorf("%w: %w", session.ErrUnavailable, ctx.Err())
	}
	return nil
}

func (s *testStore) counter(method string) *atomic.Int64 {
	c, _ := s.calls.LoadOrStore(method, new(atomic.Int64))
	return c.(*atomic.Int64)
}

func (s *testStore) count(method string) int { return int(s.counter(method).Load()) }

// holdCalls makes calls of the method wait until release is called.
func (s *testStore) holdCalls(method string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{})
	s.hold[method] = c
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.hold, method)
		close(c)
	}
}

// failCalls makes calls of the method fail with err, or work again if err is nil.
func (s *testStore) failCalls(method string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[method] = err
}

func (s *testStore) Get(ctx context.Context, id string) (session.Record, error) {
	if err := s.begin(ctx, "Get"); err != nil {
		return session.Record{}, err
	}
	return s.Store.Get(ctx, id)
}

func (s *testStore) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) []error {
	if err := s.begin(ctx, "Renew"); err != nil {
		return slices.Repeat([]error{err}, len(records))
	}
	return s.Store.Renew(ctx, records, ttls)
}

func (s *testStore) Save(ctx context.Context, list []session.Saved) []error {
	if err := s.begin(ctx, "Save"); err != nil {
		return slices.Repeat([]error{err}, len(list))
	}
	return s.Store.Save(ctx, list)
}

func (s *testStore) EndAll(ctx context.Context, list []session.Ending, ttl time.Duration) []error {
	if err := s.begin(ctx, "EndAll"); err != nil {
		return slices.Repeat([]error{err}, len(list))
	}
	return s.Store.EndAll(ctx, list, ttl)
}

func (s *testStore) Fenced(ctx context.Context, node string) (string, error) {
	if err := s.begin(ctx, "Fenced"); err != nil {
		return "", err
	}
	return s.Store.Fenced(ctx, node)
}

func (s *testStore) Ping(ctx context.Context) error { return s.begin(ctx, "Ping") }

// testOwner is an owner that records what it is notified of.
type testOwner struct {
	rig   *rig
	lease Lease

	mu         sync.Mutex
	record     session.Record
	released   bool // Remove or End has returned
	lost       []error
	lostRecord session.Record
	seq        uint64 // of the last checkpoint
	stored     uint64 // the last one that is stored
	status     CheckpointStatus
	building   func() // called by Checkpoint
}

func (o *testOwner) Record(time.Time) (session.Record, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.check("Record")
	return o.record, testTTL
}

func (o *testOwner) Lost(err error, r session.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.check("Lost")
	o.lost, o.lostRecord = append(o.lost, err), r
}

func (o *testOwner) Checkpoint() (Checkpoint, CheckpointStatus) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.check("Checkpoint")
	if o.building != nil {
		o.building()
	}
	if o.status != CheckpointReady {
		return Checkpoint{}, o.status
	}
	o.seq++
	seq := o.seq
	saved := session.Saved{
		Lease: session.Lease{ID: o.lease.ID, Node: o.rig.keeper.cfg.Node, Epoch: o.lease.Epoch}, Stream: "s",
		State: fmt.Append(nil, seq), Seq: seq, TTL: testTTL,
	}
	return Checkpoint{Saved: saved, Commit: func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.stored = max(o.stored, seq)
	}, Failed: func() {}}, CheckpointReady
}

// check fails the test if the owner is called after it has released the lease. o.mu is
// held.
func (o *testOwner) check(method string) {
	if o.released || len(o.lost) > 0 {
		o.rig.fault("%s was called after the lease was released or lost", method)
	}
}

func (o *testOwner) losses() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.lost)
}

func (o *testOwner) storedSeq() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stored
}

// set changes the record and says so, with the owner's lock held.
func (o *testOwner) set(change func(*session.Record)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.record)
	o.rig.keeper.Changed(&o.lease)
}

func (o *testOwner) remove() {
	o.rig.keeper.Remove(&o.lease)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.released = true
}

func (o *testOwner) end(reason session.Reason) {
	o.rig.keeper.End(&o.lease, reason)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.released = true
}

// rig is a Keeper over a store in memory.
type rig struct {
	*testing.T
	store  *testStore
	keeper *Keeper
	stalls atomic.Int64
	failed atomic.Int64 // checkpoints
	wiped  atomic.Int64 // times the store was found to have lost records

	mu     sync.Mutex
	faults []string
}

// newRig returns a rig whose Keeper runs until the test ends. Call it in a bubble.
func newRig(t *testing.T) *rig {
	r := &rig{T: t, store: newTestStore()}
	r.keeper = New(Config{
		Node: "node-1", Instance: "first", Store: r.store, StoreTimeout: testTimeout, RenewInterval: testInterval, TombstoneTTL: time.Hour,
		Metrics: Metrics{
			StoreLost:        func() { r.wiped.Add(1) },
			CheckpointFailed: func() { r.failed.Add(1) },
			Stalled:          func() { r.stalls.Add(1) },
		},
	})
	return r
}

// run runs the Keeper until stop is called.
func (r *rig) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.keeper.Run(ctx)
	}()
	synctest.Wait()
	return func() {
		cancel()
		<-done
	}
}

// inBubble runs the test with a running Keeper, on a synthetic clock.
func inBubble(t *testing.T, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		stop := r.run()
		test(r)
		stop()
		r.keeper.Close()
		for _, f := range r.faults {
			t.Error(f)
		}
	})
}

func (r *rig) fault(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// acquire creates a session in the store, attaches it to the node, and returns its
// owner, which is not added yet.
func (r *rig) acquire(user string) *testOwner {
	ctx := context.Background()
	rec, _, err := r.store.Create(ctx, session.NewRequest(), session.Record{ID: session.NewID(user), User: user, Node: "node-1"}, session.Rule{}, testTTL)
	if err == nil {
		_, err = r.store.Attach(ctx, r.keeper.Holder(rec.ID, rec.Epoch), "s", false, 0, testTTL)
	}
	if err != nil {
		r.fault("acquire: %v", err)
	}
	rec.State, rec.Stream = session.Attached, "s"
	return &testOwner{rig: r, record: rec, status: CheckpointReady, lease: Lease{ID: rec.ID, Epoch: rec.Epoch}}
}

// add returns the owner of a new session, whose lease is kept.
func (r *rig) add(user string) *testOwner {
	o := r.acquire(user)
	r.keeper.Add(&o.lease, o)
	return o
}

// takeOver makes another node the owner of the session. The first node is not notified
// unless fence is set.
func (r *rig) takeOver(o *testOwner, fence bool) {
	_, err := r.store.Reassign(context.Background(), session.NewRequest(), session.Record{ID: o.lease.ID, Epoch: o.lease.Epoch}, "node-2", time.Hour)
	if err == nil && fence {
		err = r.store.Fence(context.Background(), "node-1")
	}
	if err != nil {
		r.fault("take over: %v", err)
	}
}

// recordOf returns what the store knows of the session, whether it is down or not.
func (r *rig) recordOf(o *testOwner) (session.Record, error) {
	return r.store.Store.Get(context.Background(), o.lease.ID)
}

// after lets the time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
