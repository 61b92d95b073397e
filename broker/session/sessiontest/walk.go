package sessiontest

import (
	"errors"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/broker/session"
)

var walkTests = []test{{"Random operations compared with a model", func(f *fixture) {
	rapid.Check(f.T, func(t *rapid.T) {
		w := &walk{T: t, f: f, user: newUser(), records: make(map[string]*modelRecord), groups: make(map[string]modelGroup)}
		for range 3 {
			w.ids = append(w.ids, session.NewID(w.user))
		}
		w.group = newGroup()
		t.Repeat(map[string]func(*rapid.T){
			"create": w.create, "reassign": w.reassign, "attach": w.attach, "renew": w.renew, "end": w.end,
			"group": w.bind, "pass": w.pass, "": w.check,
		})
	})
}}}

// walk is a model of a store: it holds the records that the operations so far must
// have produced.
type walk struct {
	*rapid.T
	f       *fixture
	user    string
	ids     []string
	group   string
	now     time.Duration
	records map[string]*modelRecord
	groups  map[string]modelGroup
}

type modelRecord struct {
	session.Record
	request string
	expires time.Duration
}

type modelGroup struct {
	node    string
	expires time.Duration
}

// No sum of steps is within a minute of a ttl, so that a store whose server has a
// running clock of its own agrees with the model.
var (
	ttls  = rapid.SampledFrom([]time.Duration{61 * time.Minute, 127 * time.Minute})
	steps = rapid.SampledFrom([]time.Duration{31 * time.Minute, 47 * time.Minute})

	// Few values of each, so that operations conflict often.
	requests = rapid.SampledFrom([]string{"r1", "r2", "r3", ""})
	nodes    = rapid.SampledFrom([]string{"node-1", "node-2", "node-3"})
	streams  = rapid.SampledFrom([]string{"stream-1", "stream-2"})
	served   = rapid.SampledFrom([]session.State{session.Attached, session.Detached})
	reasons  = rapid.SampledFrom([]session.Reason{code, code2, 4999})
)

// find draws the id of a session, and returns what have returns for it.
func (w *walk) find(t *rapid.T) (string, *modelRecord, error) {
	id := rapid.SampledFrom(w.ids).Draw(t, "id")
	m, err := w.have(id)
	return id, m, err
}

// have returns the record that the model has of the session, with the error that the
// store must return: nil and ErrNotFound, or the record and nil or ErrEnded.
func (w *walk) have(id string) (*modelRecord, error) {
	m := w.records[id]
	switch {
	case m == nil || w.now >= m.expires:
		return nil, session.ErrNotFound
	case m.State == session.Ended:
		return m, session.ErrEnded
	}
	return m, nil
}

func (w *walk) ttl(t *rapid.T) time.Duration { return ttls.Draw(t, "ttl") }

// lease draws the lease of the record, or one that is slightly wrong.
func (w *walk) lease(t *rapid.T, id string, m *modelRecord) session.Lease {
	l := session.Lease{ID: id, Node: "node-1", Epoch: 1}
	if m != nil {
		l = lease(m.Record)
	}
	if rapid.IntRange(0, 3).Draw(t, "stale") == 0 {
		l.Node = nodes.Draw(t, "of")
		l.Epoch = max(1, l.Epoch-1)
	}
	return l
}

func (w *walk) create(t *rapid.T) {
	id, m, _ := w.find(t)
	request, node, ttl := requests.Draw(t, "request"), nodes.Draw(t, "node"), w.ttl(t)
	got, err := w.f.Create(t.Context(), request, session.Record{ID: id, User: w.user, Node: node, Ext: []byte(`{}`)}, ttl)
	switch {
	case m == nil:
		m = &modelRecord{Record: session.Record{
			ID: id, User: w.user, Node: node, Ext: []byte(`{}`), Epoch: 1, State: session.Assigned, Created: got.Created,
		}, request: request, expires: w.now + ttl}
		w.records[id] = m
		w.same(t, got, err, m, nil)
	case request == "" || m.request != request:
		w.is(t, err, session.ErrExists)
	default:
		w.same(t, got, err, m, nil)
	}
}

func (w *walk) reassign(t *rapid.T) {
	id, m, want := w.find(t)
	request, node, ttl := requests.Draw(t, "request"), nodes.Draw(t, "node"), w.ttl(t)
	epoch := w.lease(t, id, m).Epoch
	got, err := w.f.Reassign(t.Context(), request, id, epoch, node, ttl)
	switch {
	case want != nil || request != "" && m.request == request:
	case m.Epoch != epoch:
		want = session.ErrMoved
	default:
		m.Epoch++
		m.Node, m.State, m.request, m.expires = node, session.Assigned, request, w.now+ttl
	}
	w.same(t, got, err, m, want)
}

func (w *walk) attach(t *rapid.T) {
	id, m, want := w.find(t)
	l, stream, ttl := w.lease(t, id, m), streams.Draw(t, "stream"), w.ttl(t)
	got, err := w.f.Attach(t.Context(), l, stream, ttl)
	if want == nil && l != lease(m.Record) {
		want = session.ErrMoved
	}
	w.same(t, got, err, m, want)
	if want == nil {
		m.State, m.Stream, m.expires = session.Attached, stream, w.now+ttl
	}
}

func (w *walk) renew(t *rapid.T) {
	id, m, want := w.find(t)
	l, ttl := w.lease(t, id, m), w.ttl(t)
	r := session.Record{
		ID: id, User: w.user, Node: l.Node, Epoch: l.Epoch, State: served.Draw(t, "state"), Stream: streams.Draw(t, "stream"),
		Pool: "ranked", Created: time.UnixMicro(int64(len(w.records))),
	}
	switch {
	case m == nil:
		w.records[id] = &modelRecord{Record: r, expires: w.now + ttl}
		want = nil
	case want != nil:
	case l != lease(m.Record):
		want = session.ErrMoved
	default:
		m.State, m.Stream, m.expires = r.State, r.Stream, w.now+ttl
	}
	w.is(t, w.f.Renew(t.Context(), []session.Record{r}, []time.Duration{ttl})[0], want)
}

func (w *walk) end(t *rapid.T) {
	id, m, want := w.find(t)
	reason, ttl := reasons.Draw(t, "reason"), w.ttl(t)
	got, err := w.f.End(t.Context(), id, reason, ttl)
	if want == nil {
		m.State, m.Reason, m.expires = session.Ended, reason, w.now+ttl
	}
	if errors.Is(want, session.ErrEnded) {
		want = nil
	}
	w.same(t, got, err, m, want)
}

func (w *walk) bind(t *rapid.T) {
	node, replace, ttl := nodes.Draw(t, "node"), "", w.ttl(t)
	if rapid.Bool().Draw(t, "replacing") {
		replace = nodes.Draw(t, "replace")
	}
	got, err := w.f.Group(t.Context(), w.group, node, replace, ttl)
	w.is(t, err, nil)
	g := w.groups[w.group]
	if w.now >= g.expires || g.node == replace {
		g.node = node
	}
	g.expires = w.now + ttl
	w.groups[w.group] = g
	if got != g.node {
		t.Fatalf("group bound to %q, want %q", got, g.node)
	}
}

func (w *walk) pass(t *rapid.T) {
	d := steps.Draw(t, "step")
	w.f.advance(d)
	w.now += d
}

// check compares all sessions with the model, after every operation.
func (w *walk) check(t *rapid.T) {
	var alive []string
	for _, id := range w.ids {
		m, want := w.have(id)
		got, err := w.f.Get(t.Context(), id)
		w.same(t, got, err, m, want)
		if want == nil {
			alive = append(alive, id)
		}
	}
	list, err := w.f.Sessions(t.Context(), w.user, 10)
	w.is(t, err, nil)
	var listed []string
	for _, r := range list {
		listed = append(listed, r.ID)
	}
	slices.Sort(alive)
	slices.Sort(listed)
	if !slices.Equal(listed, alive) {
		t.Fatalf("listed %q, want %q", listed, alive)
	}
}

// same fails the check unless the error is want and the record equals that of the
// model, except for Changed, which the model does not know.
func (w *walk) same(t *rapid.T, got session.Record, err error, m *modelRecord, want error) {
	t.Helper()
	w.is(t, err, want)
	if m == nil {
		return
	}
	expect := m.Record
	expect.Changed = got.Changed
	if diff := difference(got, expect); diff != "" {
		t.Fatalf("%s\n got %+v\nwant %+v", diff, got, expect)
	}
}

func (w *walk) is(t *rapid.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}
