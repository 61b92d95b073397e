// Package sessiontest is the test suite that every session.Store must pass: a test
// for each sentence of the interface, and random operations that are compared with
// a model.
package sessiontest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Open returns a store, and a function that makes time pass for it. advance must
// reduce every ttl by d. It need not move the clock that Created and Changed are read
// from. The store may hold sessions of other tests, because every test has users of
// its own. Open must close the store when the test ends.
type Open func(t *testing.T) (store session.Store, advance func(d time.Duration))

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, group := range [][]test{
		createTests, getTests, reassignTests, proveTests, attachTests, renewTests, saveTests, moveTests, endTests, endAllTests,
		endUserTests, ruleTests, fenceTests, sessionsTests, groupTests, memberTests, queueTests, ttlTests, hostileTests, unavailableTests, walkTests,
	} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				store, advance := open(t)
				c.run(&fixture{T: t, Store: store, advance: advance, user: newUser()})
			})
		}
	}
}

type test struct {
	name string
	run  func(*fixture)
}

// fixture is a store under test, and a user that no other test uses.
type fixture struct {
	*testing.T
	session.Store
	advance func(time.Duration)
	user    string
}

const (
	long  = time.Hour // a ttl that no test outlives
	code  = proto.CloseKicked
	code2 = proto.CloseSessionEnded
)

func newUser() string { return "ada-" + rand.Text() }

// draft returns a record with all fields set that Create accepts.
func (f *fixture) draft() session.Record {
	return session.Record{
		ID: session.NewID(f.user), User: f.user, Node: "node-1",
		Pool: "ranked", Region: "eu", Fallback: []string{"eu-2", "us"}, Strict: true, Group: "match-1", Ext: []byte(`{"level": 3}`),
	}
}

// Create calls the store's Create, under the rule without limits.
func (f *fixture) Create(ctx context.Context, request string, r session.Record, ttl time.Duration) (session.Record, error) {
	made, ended, err := f.Store.Create(ctx, request, r, session.Rule{}, ttl)
	if len(ended) > 0 {
		f.Errorf("%d sessions ended without a rule", len(ended))
	}
	return made, err
}

// Attach calls the store's Attach with take, and without a proof.
func (f *fixture) Attach(ctx context.Context, l session.Lease, stream string, ttl time.Duration) (session.Record, error) {
	return f.Store.Attach(ctx, l, stream, true, 0, ttl)
}

// Reassign calls the store's Reassign with a record that has only ID and Epoch.
func (f *fixture) Reassign(ctx context.Context, request, id string, epoch uint64, node string, ttl time.Duration) (session.Record, error) {
	return f.Store.Reassign(ctx, request, session.Record{ID: id, Epoch: epoch}, node, ttl)
}

// Restore calls the store's Restore, and does not return the record.
func (f *fixture) Restore(ctx context.Context, l session.Lease) (session.StoredState, error) {
	_, stored, err := f.Store.Restore(ctx, l)
	return stored, err
}

// End calls the store's End at any epoch, with the close reason of the code.
func (f *fixture) End(ctx context.Context, id string, reason session.Reason, ttl time.Duration) (session.Record, error) {
	return f.Store.End(ctx, id, 0, reason, "", ttl)
}

// Group calls the store's Group without a session.
func (f *fixture) Group(ctx context.Context, group, node, replace string, ttl time.Duration) (string, error) {
	b, err := f.Store.Group(ctx, group, "", node, replace, ttl)
	if len(b.Others) > 0 || b.Young {
		f.Errorf("a group without members: %+v", b)
	}
	return b.Node, err
}

// create returns a new session of the fixture's user, at epoch 1 of node-1.
func (f *fixture) create() session.Record {
	f.Helper()
	r, err := f.Create(f.Context(), session.NewRequest(), f.draft(), long)
	f.must(err)
	return r
}

// attached returns a new session that node-1 serves with stream-1.
func (f *fixture) attached() session.Record {
	f.Helper()
	r := f.create()
	_, err := f.Attach(f.Context(), lease(r), "stream-1", long)
	f.must(err)
	return f.get(r.ID)
}

// ended returns a new session that has ended.
func (f *fixture) ended() session.Record {
	f.Helper()
	r, err := f.End(f.Context(), f.create().ID, code, long)
	f.must(err)
	return r
}

func lease(r session.Record) session.Lease {
	return session.Lease{ID: r.ID, Node: r.Node, Epoch: r.Epoch}
}

// get returns the record, alive or ended.
func (f *fixture) get(id string) session.Record {
	f.Helper()
	r, err := f.Get(f.Context(), id)
	if !errors.Is(err, session.ErrEnded) {
		f.must(err)
	}
	return r
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// is fails the test unless the error is want, which may be nil.
func (f *fixture) is(err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Fatalf("error %v, want %v", err, want)
	}
}

// same fails the test unless both records are equal.
func (f *fixture) same(got, want session.Record) {
	f.Helper()
	if diff := difference(got, want); diff != "" {
		f.Fatalf("%s\n got %+v\nwant %+v", diff, got, want)
	}
}

// unchanged fails the test unless the store holds exactly want.
func (f *fixture) unchanged(want session.Record) {
	f.Helper()
	f.same(f.get(want.ID), want)
}

// difference returns the name of the first field that differs, or "". Times are equal
// if they are the same instant.
func difference(a, b session.Record) string {
	switch {
	case !a.Created.Equal(b.Created):
		return "Created"
	case !a.Changed.Equal(b.Changed):
		return "Changed"
	case string(a.Ext) != string(b.Ext):
		return "Ext"
	}
	a.Created, a.Changed, a.Ext = b.Created, b.Changed, nil
	b.Ext = nil
	if as, bs := fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b); as != bs {
		return "a field"
	}
	return ""
}

// atOnce runs n calls of do at the same time and waits for them.
func atOnce(n int, do func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	wg.Wait()
}

// cancelled returns a context that is cancelled.
func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
