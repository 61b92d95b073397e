package field

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/usher-broker/usher/node"
)

// A name or a text is cut after a complete character, and a hue is from 0 to 359.
func TestCut(t *testing.T) {
	for in, want := range map[string]string{"ada": "ada", strings.Repeat("ü", 30): strings.Repeat("ü", 24)} {
		if got := cut(in, maxName); got != want {
			t.Errorf("%q", got)
		}
	}
	if h := hue("x"); h >= 360 || h != hue("x") {
		t.Error(h)
	}
}

// The next node adds the player of a snapshot to its field.
func TestSnapshot(t *testing.T) {
	var a, b App
	s := &node.Session{ID: "s1"}
	if snapshot, err := a.Snapshot(s); err != nil || b.Restore(s, snapshot) != nil || s.Data != nil {
		t.Errorf("a player who has not joined: %s, %v", snapshot, err)
	}
	s.Data = &player{ID: "s1", Field: "main", Name: "ada", X: 0.25, Y: 0.75, Hue: 12}
	snapshot, err := a.Snapshot(s)
	if err != nil {
		t.Fatal(err)
	}
	var back player
	if err := json.Unmarshal(snapshot, &back); err != nil || back != *s.Data.(*player) {
		t.Errorf("%s: %+v", snapshot, back)
	}
	if err := b.Restore(s, []byte("{")); err == nil {
		t.Error("an invalid snapshot was accepted")
	}
}

// A player to whom too much was sent while away is still away.
func TestResetWhileAway(t *testing.T) {
	var a App
	s := &node.Session{ID: "s1"}
	p := &player{ID: "s1", Field: "main", Away: true}
	s.Data = p
	a.Reset(s, node.Reset{Away: true})
	if !p.Away {
		t.Error("shown to be back")
	}
}
