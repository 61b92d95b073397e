package node

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/usher-broker/usher/proto"
)

func (r *rig) push(claims proto.Claims, key, text string, volatile bool) proto.CommandResult {
	return r.node.Command(context.Background(), "auth-1", proto.Command{
		Op: proto.OpPush, Session: claims.Session, Key: key, Push: &proto.Push{Text: &text, Volatile: volatile},
	})
}

// A push reaches the connection, or the buffer of a detached session, once for each
// key, also after the session has moved.
func TestPush(t *testing.T) {
	for _, checkpoint := range []bool{false, true} {
		t.Run(fmt.Sprint("checkpoints ", checkpoint), func(t *testing.T) {
			set := func(c *Config) { c.Checkpoint = checkpoint }
			r := newRig(t, Echo{}, set)
			claims := r.login("ada")
			if got := r.push(claims, "", "early", false); got.Found {
				t.Errorf("before it was attached: %+v", got)
			}
			c := r.attach(claims, "")
			want := func(got proto.CommandResult, result string) {
				t.Helper()
				if got.Result != result || got.Error != "" || !got.Found {
					t.Errorf("got %+v, want %s", got, result)
				}
			}
			want(r.push(claims, "k1", "one", false), proto.PushSent)
			want(r.push(claims, "k1", "one", false), proto.PushSent)
			want(r.push(claims, "", "two", false), proto.PushSent)
			for _, w := range []string{"one", "two"} {
				if m := c.message(); string(m.Data) != w || !m.Text {
					t.Errorf("got %q, want %q", m.Data, w)
				}
			}
			c.ws.CloseNow()
			eventually(t, func() error {
				if got := r.push(claims, "", "volatile", true); got.Result != proto.PushDropped {
					return fmt.Errorf("%+v", got)
				}
				return nil
			})
			want(r.push(claims, "k2", "three", false), proto.PushBuffered)
			want(r.push(claims, "k1", "one", false), proto.PushBuffered)
			next := r.mustMove(claims, "node-2")
			if got := r.push(claims, "k3", "four", false); got.Found {
				t.Errorf("after it has left: %+v", got)
			}
			r2 := newRig(t, Echo{}, func(c *Config) { set(c); c.ID, c.Store = "node-2", r.store })
			c2 := r2.attach(next, resumeQuery(c.welcome.Stream, 2))
			want(r2.push(next, "k2", "three", false), proto.PushSent)
			want(r2.push(next, "k3", "four", false), proto.PushSent)
			for _, w := range []string{"three", "four"} {
				if m := c2.message(); string(m.Data) != w {
					t.Errorf("got %q, want %q", m.Data, w)
				}
			}
		})
	}
}

// A push never ends a stream: a message that does not fit is refused.
func TestPushFull(t *testing.T) {
	r := newRig(t, newCallRecorder(), func(c *Config) { c.Limits.UnackedMessages = 3 })
	claims := r.login("ada")
	c := r.attach(claims, "")
	c.ws.CloseNow()
	for i := range 5 {
		want := proto.PushBuffered
		if i >= 3 {
			want = proto.PushFull
		}
		eventually(t, func() error {
			got := r.push(claims, fmt.Sprint(i), fmt.Sprint("m", i), false)
			if got.Result == proto.PushSent { // the node has not noticed the end of the connection yet
				return nil
			}
			if got.Result != want {
				return fmt.Errorf("push %d: %+v", i, got)
			}
			return nil
		})
	}
	c2 := r.attach(claims, resumeQuery(c.welcome.Stream, 0))
	if !c2.welcome.Resumed {
		t.Fatalf("%+v", c2.welcome)
	}
	for i := range 3 {
		if m := c2.message(); string(m.Data) != fmt.Sprint("m", i) {
			t.Errorf("got %q", m.Data)
		}
	}
}

func TestPushRefused(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	r.attach(claims, "")
	text := "x"
	for name, push := range map[string]*proto.Push{
		"nothing": nil, "neither": {}, "both": {Text: &text, Data: []byte("y")},
	} {
		got := r.node.Command(t.Context(), "auth-1", proto.Command{Op: proto.OpPush, Session: claims.Session, Push: push})
		if got.Error == "" || got.Result != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, bad := range []string{strings.Repeat("x", 70_000), "\xff"} {
		if got := r.push(claims, "", bad, false); got.Error == "" {
			t.Errorf("%.5q: %+v", bad, got)
		}
	}
}

func TestPushKeysForgetTheOldest(t *testing.T) {
	k := newPushKeys(nil)
	for i := range 3 * maxPushKeys / 2 {
		k.add(fmt.Sprint(i))
	}
	k = newPushKeys(k.list())
	k.add("last")
	for key, want := range map[string]bool{"31": false, "32": false, "33": true, "95": true, "last": true} {
		if k.has(key) != want {
			t.Errorf("has %s: %v", key, !want)
		}
	}
}
