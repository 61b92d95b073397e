package broker_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

func TestAssign(t *testing.T) {
	h := newFixture(t, "node-1")
	a := h.assign(proto.AssignmentRequest{
		User: "ada", Placement: proto.Placement{Region: "eu"}, Ext: json.RawMessage(`{ "rank": 3, "tag": "<&>" }`),
	})
	if want := (proto.NodeAddress{ID: "node-1", URL: "wss://node-1.example/v1/connect"}); a.Node != want || a.User != "ada" {
		t.Errorf("got %+v", a)
	}
	c := h.claims(a)
	now := h.clock.now().Unix()
	want := proto.Claims{
		Issuer: issuer, Audience: "usher", User: "ada", Session: a.Session, Node: "node-1", Epoch: 1,
		IssuedAt: now, NotBefore: now, Expires: now + 3600, ID: c.ID, Ext: json.RawMessage(`{"rank":3,"tag":"<&>"}`),
	}
	if string(c.Ext) != string(want.Ext) || c.Issuer != want.Issuer || c.Session != want.Session || c.Node != want.Node ||
		c.Epoch != 1 || c.IssuedAt != now || c.NotBefore != now || c.Expires != want.Expires || c.ID == "" || c.User != "ada" {
		t.Errorf("claims %+v\nwant   %+v", c, want)
	}
	if !a.TokenExpiresAt.Equal(time.Unix(now+3600, 0)) || a.TokenExpiresAt.Location() != time.UTC {
		t.Errorf("expires %v", a.TokenExpiresAt)
	}
	r, err := h.Session(t.Context(), a.Session)
	if err != nil || r.Node != "node-1" || r.State != session.Assigned || r.Epoch != 1 || r.Pool != "default" || r.Region != "eu" || string(r.Ext) != string(want.Ext) {
		t.Errorf("record %+v, %v", r, err)
	}
	if n := h.pending("node-1"); n != 1 {
		t.Errorf("%d pending", n)
	}
	if h.counts.of("assigned ok") != 1 || h.counts.of("picked ok") != 1 {
		t.Errorf("counted %v", h.counts.n)
	}
}

// A client cannot attach after the session has waited for AssignTTL.
func TestAssignedSessionWaitsAMinute(t *testing.T) {
	h := newFixture(t, "node-1")
	a := h.assign(proto.AssignmentRequest{User: "ada"})
	h.clock.advance(59 * time.Second)
	if _, err := h.Session(t.Context(), a.Session); err != nil {
		t.Error(err)
	}
	h.clock.advance(2 * time.Second)
	if _, err := h.Session(t.Context(), a.Session); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("after a minute: %v", err)
	}
}

func TestEveryAssignmentIsAnotherSession(t *testing.T) {
	h := newFixture(t, "node-1")
	a, b := h.assign(proto.AssignmentRequest{User: "ada"}), h.assign(proto.AssignmentRequest{User: "ada"})
	if a.Session == b.Session || a.Token == b.Token || h.claims(a).ID == h.claims(b).ID {
		t.Errorf("got %+v and %+v", a, b)
	}
	list, err := h.Sessions(t.Context(), "ada", 10)
	if err != nil || len(list) != 2 {
		t.Errorf("sessions %+v, %v", list, err)
	}
}

func TestAssignKeepsToThePool(t *testing.T) {
	h := newFixture(t, "node-1")
	h.join("vip-1", func(p *proto.Peer) { p.Pool = "vip" })
	for range 20 {
		if a := h.assign(proto.AssignmentRequest{User: "ada", Placement: proto.Placement{Pool: "vip"}}); a.Node.ID != "vip-1" {
			t.Fatalf("sent to %s", a.Node.ID)
		}
	}
	_, err := h.Assign(t.Context(), proto.AssignmentRequest{User: "ada", Placement: proto.Placement{Pool: "none"}})
	if !errors.Is(err, placement.ErrNoNodes) {
		t.Errorf("no such pool: %v", err)
	}
}

func TestAssignWithoutCapacity(t *testing.T) {
	h := newFixture(t)
	if _, err := h.Assign(t.Context(), proto.AssignmentRequest{User: "ada"}); !errors.Is(err, placement.ErrNoNodes) {
		t.Errorf("without nodes: %v", err)
	}
	h.join("node-1")
	h.report("node-1", proto.StateFull, 1000)
	if _, err := h.Assign(t.Context(), proto.AssignmentRequest{User: "ada"}); !errors.Is(err, placement.ErrNoCapacity) {
		t.Errorf("all full: %v", err)
	}
	if h.counts.of("assigned no_nodes") != 1 || h.counts.of("assigned no_capacity") != 1 {
		t.Errorf("counted %v", h.counts.n)
	}
	if list, _ := h.Sessions(t.Context(), "ada", 10); len(list) != 0 {
		t.Errorf("sessions exist: %+v", list)
	}
}

// A failed assignment leaves no pending session at the node.
func TestAssignWithoutAStore(t *testing.T) {
	h := newFixture(t, "node-1")
	h.store.down = errDown
	for _, group := range []string{"", "match"} {
		_, err := h.Assign(t.Context(), proto.AssignmentRequest{User: "ada", Placement: proto.Placement{Group: group}})
		if !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("group %q: %v", group, err)
		}
	}
	if n := h.pending("node-1"); n != 0 {
		t.Errorf("%d pending", n)
	}
	if h.counts.of("assigned store_unavailable") != 2 {
		t.Errorf("counted %v", h.counts.n)
	}
}

func TestAssignRejectsInvalidRequests(t *testing.T) {
	h := newFixture(t, "node-1")
	long := strings.Repeat("x", proto.MaxNameBytes+1)
	for name, req := range map[string]proto.AssignmentRequest{
		"no user":            {},
		"long user":          {User: long},
		"user not UTF-8":     {User: "a\xff"},
		"control in user":    {User: "a\nb"},
		"long region":        {User: "ada", Placement: proto.Placement{Region: long}},
		"long pool":          {User: "ada", Placement: proto.Placement{Pool: long}},
		"control in pool":    {User: "ada", Placement: proto.Placement{Pool: "a\nb"}},
		"long group":         {User: "ada", Placement: proto.Placement{Group: long}},
		"ext not JSON":       {User: "ada", Ext: json.RawMessage(`{"a":`)},
		"ext of two values":  {User: "ada", Ext: json.RawMessage(`1 2`)},
		"ext not UTF-8":      {User: "ada", Ext: json.RawMessage("\"\xff\"")},
		"ext over the limit": {User: "ada", Ext: json.RawMessage(`"` + strings.Repeat("x", proto.MaxExtBytes-1) + `"`)},
	} {
		if _, err := h.Assign(t.Context(), req); !errors.Is(err, broker.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if h.counts.of("assigned invalid") != 12 || h.counts.of("picked ok") != 0 {
		t.Errorf("counted %v", h.counts.n)
	}
}

// A request at all limits makes a token that verifies.
func TestAssignAtTheLimits(t *testing.T) {
	h := newFixture(t)
	name := strings.Repeat(`"`, proto.MaxNameBytes)
	h.join(name)
	ext := `"` + strings.Repeat("<", proto.MaxExtBytes-2) + `"`
	a := h.assign(proto.AssignmentRequest{
		User: name, Placement: proto.Placement{Region: name, Group: name}, Ext: json.RawMessage(" " + ext + " "),
	})
	if c := h.claims(a); c.User != name || c.Node != name || string(c.Ext) != ext {
		t.Errorf("claims %+v", c)
	}
}

func TestNullIsNoExt(t *testing.T) {
	h := newFixture(t, "node-1")
	if c := h.claims(h.assign(proto.AssignmentRequest{User: "ada", Ext: json.RawMessage(" null ")})); c.Ext != nil {
		t.Errorf("ext %s", c.Ext)
	}
}

func TestNewRejectsBadConfig(t *testing.T) {
	good := func() broker.Config {
		h := newFixture(t)
		return broker.Config{Issuer: issuer, Store: h.store, Signer: signer{}, Cluster: h.cluster}
	}
	for name, change := range map[string]func(*broker.Config){
		"no issuer":     func(c *broker.Config) { c.Issuer = "" },
		"long issuer":   func(c *broker.Config) { c.Issuer = strings.Repeat("i", 65) },
		"no store":      func(c *broker.Config) { c.Store = nil },
		"no cluster":    func(c *broker.Config) { c.Cluster = nil },
		"long tokens":   func(c *broker.Config) { c.TokenTTL = 25 * time.Hour },
		"short tokens":  func(c *broker.Config) { c.TokenTTL = time.Millisecond },
		"negative time": func(c *broker.Config) { c.AssignTTL = -1 },
	} {
		c := good()
		change(&c)
		if b, err := broker.New(c); err == nil {
			b.Close()
			t.Errorf("%s: no error", name)
		}
	}
	b, err := broker.New(good())
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
}

// A broker without a key cannot open or move sessions, and leaves nothing behind
// when it is asked to. Everything else works.
func TestNoSigner(t *testing.T) {
	h := newFixture(t, "node-1")
	a := h.assign(ada)
	keyless, err := broker.New(broker.Config{
		Issuer: issuer, Store: h.store, Cluster: h.cluster,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer keyless.Close()
	if _, err := keyless.Assign(t.Context(), ada); !errors.Is(err, broker.ErrNoSigner) {
		t.Errorf("assign: %v", err)
	}
	if _, err := keyless.Reassign(t.Context(), h.claims(a), ""); !errors.Is(err, broker.ErrNoSigner) {
		t.Errorf("reassign: %v", err)
	}
	if list, err := keyless.Sessions(t.Context(), "ada", 10); err != nil || len(list) != 1 {
		t.Errorf("sessions: %v, %v", list, err)
	}
}

type signer struct{}

func (signer) Sign(proto.Claims) (string, error) { return "", errors.New("no keys") }
