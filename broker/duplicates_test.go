package broker_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

func TestParseDuplicates(t *testing.T) {
	for text, want := range map[string]broker.Duplicates{
		"replace": {}, "reject": {Reject: true}, "allow": {Sessions: broker.AnyNumber}, "allow:3": {Sessions: 3}, "allow:1": {Sessions: 1},
	} {
		if got, err := broker.ParseDuplicates(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "allow:", "allow:0", "allow:-1", "allow:1001", "allow:x", "Replace", "reject:2", "kick"} {
		if got, err := broker.ParseDuplicates(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
	got, err := broker.ParseDuplicatesByPool([]string{"reject", "lobby=allow:2"})
	want := map[string]broker.Duplicates{"": {Reject: true}, "lobby": {Sessions: 2}}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, list := range [][]string{{"reject", "replace"}, {"a=reject", "a=allow"}, {"=reject"}, {"a="}, {"a"}} {
		if got, err := broker.ParseDuplicatesByPool(list); err == nil {
			t.Errorf("%q: %+v", list, got)
		}
	}
}

// By default a login ends the older session, and its node is notified with the
// reason.
func TestDuplicateReplaces(t *testing.T) {
	h := newFixture(t, "node-1")
	clear(h.policies)
	old := h.assign(ada)
	h.attach(old)
	made := h.assign(ada)
	if r, err := h.Session(t.Context(), old.Session); !errors.Is(err, session.ErrEnded) || r.Reason != proto.CloseKicked || r.CloseReason != "duplicate_login" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := h.Session(t.Context(), made.Session); err != nil {
		t.Error(err)
	}
	sent := h.commands()
	want := proto.Command{Op: proto.OpEnd, Session: old.Session, Code: proto.CloseKicked, Reason: "duplicate_login"}
	if len(sent) != 1 || sent[0].to != "node-1" || sent[0].cmd != want {
		t.Errorf("sent %+v", sent)
	}
}

func TestDuplicatePolicies(t *testing.T) {
	h := newFixture(t, "node-1")
	clear(h.policies)
	h.policies[""] = broker.Duplicates{Reject: true}
	h.policies["lobby"] = broker.Duplicates{Sessions: 2}
	h.assign(ada)
	if _, err := h.Assign(t.Context(), ada); !errors.Is(err, session.ErrConnected) || h.counts.of("assigned connected") != 1 {
		t.Errorf("%v, counted %v", err, h.counts.n)
	}
	if n := h.pending("node-1"); n != 1 {
		t.Errorf("%d pending", n)
	}
	h.join("node-2", func(p *proto.Peer) { p.Pool = "lobby" })
	lobby := proto.AssignmentRequest{User: "ada", Placement: proto.Placement{Pool: "lobby"}}
	for range 4 {
		h.assign(lobby)
	}
	list, err := h.Sessions(t.Context(), "ada", 10)
	if err != nil || len(list) != 3 {
		t.Errorf("%d sessions, %v", len(list), err)
	}
}

func TestEndUser(t *testing.T) {
	h := newFixture(t, "node-1")
	a, b := h.assign(ada), h.assign(ada)
	ids, err := h.EndUser(t.Context(), "ada", proto.CloseKicked, "cheating")
	if err != nil || len(ids) != 2 || ids[0] != a.Session || ids[1] != b.Session {
		t.Errorf("%v, %v", ids, err)
	}
	if ids, err := h.EndUser(t.Context(), "unknown", proto.CloseKicked, ""); err != nil || len(ids) != 0 {
		t.Errorf("unknown user: %v, %v", ids, err)
	}
	if _, err := h.EndUser(t.Context(), "ada", proto.CloseKicked, "Not valid"); !errors.Is(err, broker.ErrInvalid) {
		t.Errorf("invalid reason: %v", err)
	}
	if err := h.End(t.Context(), a.Session, proto.CloseKicked, "ä"); !errors.Is(err, broker.ErrInvalid) {
		t.Errorf("invalid reason: %v", err)
	}
	for _, o := range h.commands() {
		if o.cmd.Op != proto.OpEnd || o.cmd.Reason != "cheating" || o.cmd.Code != proto.CloseKicked {
			t.Errorf("sent %+v", o)
		}
	}
}
