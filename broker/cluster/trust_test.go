package cluster

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

// A node that has the gossip key but not the key that signs metadata is a member
// whose metadata and reports are ignored.
func TestUnsignedNodesAreIgnored(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
	var trusted atomic.Pointer[ed25519.PublicKey]
	public := key.Public().(ed25519.PublicKey)
	trusted.Store(&public)
	var r recorder
	auth := authConfig("auth")
	auth.Events = r.events()
	auth.Accept = func(_ proto.Peer, raw []byte) error {
		if !proto.PeerSigned(raw, *trusted.Load()) {
			return errors.New("not signed")
		}
		return nil
	}
	a := start(t, auth)
	signed, rogue := nodeConfig("signed", a.Addr()), nodeConfig("rogue", a.Addr())
	signed.Sign = key
	signed.Self.URL = "ws://127.0.0.1:1/v1/connect"
	n := start(t, signed)
	eventually(t, "the signing node", func() bool { return r.knows("signed") })
	if p := r.peer("signed"); time.Since(time.Unix(p.Issued, 0)) > time.Minute {
		t.Errorf("issued %v", time.Unix(p.Issued, 0))
	}
	b := start(t, rogue)
	eventually(t, "the rogue to be a member", func() bool { return len(b.Members()) == 3 })
	before := a.counts.badMembers.Load()
	eventually(t, "the rogue's metadata to be rejected", func() bool { return before > 0 || a.counts.badMembers.Load() > 0 })
	if r.knows("rogue") || len(a.Members()) != 2 {
		t.Errorf("members %+v", a.Members())
	}
	if err := b.SendReport("auth", proto.Report{ID: "rogue", Generation: 1, Seq: 1}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its report to be dropped", func() bool { return a.counts.strangers.Load() > 0 })

	// A change is signed as well.
	changed := signed.Self
	changed.Region = "eu"
	if err := n.SetSelf(changed); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change", func() bool { return r.peer("signed").Region == "eu" })

	// Trust another key, and later the first one again.
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{4}, 32)).Public().(ed25519.PublicKey)
	trusted.Store(&other)
	a.Recheck()
	if r.knows("signed") || len(a.Members()) != 1 {
		t.Errorf("after its key was no longer trusted: %+v", a.Members())
	}
	trusted.Store(&public)
	a.Recheck()
	if !r.knows("signed") || r.knows("rogue") {
		t.Errorf("after its key was trusted again: %+v", a.Members())
	}
}

// Unchanged metadata is signed again every hour; otherwise it would be too old
// for members that join later.
func TestSignsEveryHour(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := nodeLoad{state: proto.StateReady}
	for _, signs := range []bool{true, false} {
		p := publisher{capacity: 10, signs: signs, published: s, metaAt: now}
		if _, meta := p.due(now.Add(59*time.Minute), s, 0); meta {
			t.Errorf("signs %v: too early", signs)
		}
		if _, meta := p.due(now.Add(time.Hour), s, 0); meta != signs {
			t.Errorf("signs %v: after an hour %v", signs, meta)
		}
	}
}

func TestNetworks(t *testing.T) {
	auth := authConfig("auth")
	auth.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.1.2.3/8")}
	a, _ := pair(t, auth, nodeConfig("near"))
	outside := nodeConfig("far", a.Addr())
	outside.Bind = "127.0.0.2:0"
	b := start(t, outside)
	eventually(t, "the member outside the networks to be rejected", func() bool { return a.Health().Foreign > 0 && len(b.Members()) == 3 })
	if got := len(a.Members()); got != 2 {
		t.Errorf("%d members: %+v", got, a.Members())
	}
}
