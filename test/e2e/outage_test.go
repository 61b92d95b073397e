package e2e

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// TestOutage takes the Redis away while clients talk, in the two ways it can
// go, and brings it back: killed, it comes back without its data; frozen, with
// it.
func TestOutage(t *testing.T) {
	t.Run("killed", func(t *testing.T) {
		outage(t, func(c *cluster) { c.redis.Stop() }, func(c *cluster) { c.redis.Restart() })
	})
	t.Run("frozen", func(t *testing.T) {
		outage(t, func(c *cluster) { c.redis.Pause() }, func(c *cluster) { c.redis.Resume() })
	})
}

// TestRestart restarts the Redis, which loses its data, so fast that hardly
// anybody asks for something meanwhile.
func TestRestart(t *testing.T) {
	c := startCluster(t, 2)
	list := talkers(t, 20, 50*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name), NoKey: true}
	})
	awaitRecorded(t, c)
	c.redis.Restart()
	back := time.Now()
	at := list[0].session.Assignment()
	t.Logf("at once, /v1/reconnect answers %v", post(t, c.url("/v1/reconnect"), at.Token, "{}"))
	await(t, "auth to know all sessions again", wellAgain, func() bool { return known(c, list) })
	t.Logf("all is well %v after the restart", time.Since(back))
	awaitEchoes(t, list, 10*time.Second)
	loggedOut(t, c, list[0])
}

// awaitRecorded waits until the nodes have told the store of all sessions and
// have, for a while, nothing more to say to it.
func awaitRecorded(t *testing.T, c *cluster) {
	t.Helper()
	const renewals, quiet = `usher_store_seconds_count{op="renew",result="ok"}`, 2500 * time.Millisecond
	last, since := 0.0, time.Now()
	await(t, "the nodes to have recorded their sessions", 15*time.Second, func() bool {
		n := 0.0
		for _, p := range c.nodes {
			n += p.metrics()[renewals]
		}
		if n != last {
			last, since = n, time.Now()
		}
		return n > 0 && time.Since(since) > quiet
	})
}

// wellAgain is how long after the return of the store everything is well.
const wellAgain = 5 * time.Second

func outage(t *testing.T, goes, returns func(*cluster)) {
	c := startCluster(t, 3)
	nets := make(map[string]*network)
	list := talkers(t, 30, 50*time.Millisecond, func(name string) usher.Config {
		nets[name] = &network{direct: c.auth.listen}
		t.Cleanup(nets[name].close)
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name), NoKey: true, Dial: nets[name].dial}
	})
	awaitEchoes(t, list, 30*time.Second)
	awaitRecorded(t, c)

	goes(c)
	gone := time.Now()
	cut, untouched := list[:10], list[10:]
	for _, tk := range cut {
		nets[tk.session.Assignment().User].cutAll()
	}
	refused := time.Duration(0)
	for n := 0; time.Since(gone) < pick(10*time.Second, 30*time.Second); n++ {
		a := c.login("late")
		refused = max(refused, a.took)
		switch {
		case a.status != 503, a.problem.Code != proto.ProblemStoreUnavailable, a.retryAfter() < 1:
			t.Fatalf("login %d while the store is away: %v, Retry-After %q", n, a, a.header.Get("Retry-After"))
		case a.took > time.Second:
			t.Errorf("login %d while the store is away was refused after %v", n, a.took)
		}
		awaitEchoes(t, untouched, 5*time.Second)
	}
	t.Logf("the slowest refusal of a login took %v", refused)
	for _, tk := range cut {
		home := tk.session.Assignment().Node.ID
		if m, ok := tk.since(usher.Attached, gone); !ok || m.node != home || m.at.Sub(gone) > 5*time.Second {
			t.Errorf("%s, cut while the store was away, is not back on %s within 5 s: %+v", tk.session.SessionID(), home, m)
		}
	}

	// What an engine asks to know whether to restart somebody.
	for _, p := range append(slices.Collect(maps.Values(c.nodes)), c.auth) {
		if !p.ready() {
			t.Errorf("%s is not ready while the store is away", p.name)
		}
	}
	returns(c)
	back := time.Now()
	left := func() time.Duration { return wellAgain - time.Since(back) }
	late := c.awaitLogin("late", left())
	await(t, "auth to know all sessions again", left(), func() bool { return known(c, list) })
	t.Logf("all is well %v after the return", time.Since(back))

	attach(t, late, "")
	awaitEchoes(t, list, 10*time.Second)
	loggedOut(t, c, list[0])
	for _, tk := range untouched {
		if states, resets, _ := tk.view(); len(states) != 1 || len(resets) != 0 {
			t.Errorf("%s was disturbed: %v, resets %q", tk.session.SessionID(), states, resets)
		}
	}
	for _, tk := range cut {
		if _, resets, _ := tk.view(); len(resets) != 0 {
			t.Errorf("%s, cut while the store was away, was reset: %q", tk.session.SessionID(), resets)
		}
	}
}

// known reports whether auth would send every client where it is.
func known(c *cluster, list []*talker) bool {
	for _, tk := range list {
		at := tk.session.Assignment()
		a := post(c.t, c.url("/v1/reconnect"), at.Token, "{}")
		if a.status != 200 {
			return false
		}
		if a.at.Session != at.Session || a.at.Node != at.Node {
			c.t.Fatalf("%s is on %s, and auth sends it to %s", at.Session, at.Node.ID, a.at.Node.ID)
		}
	}
	return true
}

// loggedOut logs the client out behind its back, and waits until it has
// noticed.
func loggedOut(t *testing.T, c *cluster, tk *talker) {
	t.Helper()
	if a := post(t, c.url("/v1/logout"), tk.session.Token(), ""); a.status != 204 {
		t.Fatalf("logout: %v", a)
	}
	await(t, "the logout to reach the client", 10*time.Second, func() bool { return tk.session.State() == usher.Ended })
	var end *usher.EndedError
	if m, _ := tk.since(usher.Ended, time.Time{}); !errors.As(m.err, &end) || end.Code != proto.CloseSessionEnded {
		t.Errorf("the session that was logged out ended with %v", m.err)
	}
	if a := post(t, c.url("/v1/reconnect"), tk.session.Token(), "{}"); a.status != 410 || a.problem.Code != proto.ProblemSessionEnded {
		t.Errorf("reconnect after the logout: %v", a)
	}
}
