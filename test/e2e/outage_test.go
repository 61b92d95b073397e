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

// TestOutage makes Redis unavailable while clients exchange messages, and restores
// it. A killed Redis comes back without its data; a frozen one keeps it.
func TestOutage(t *testing.T) {
	t.Run("killed", func(t *testing.T) {
		outage(t, func(c *cluster) { c.redis.Stop() }, func(c *cluster) { c.redis.Restart() })
	})
	t.Run("frozen", func(t *testing.T) {
		outage(t, func(c *cluster) { c.redis.Pause() }, func(c *cluster) { c.redis.Resume() })
	})
}

// TestRedisRestart restarts Redis, which loses its data, so quickly that hardly any
// request falls into the outage. Within recoveryTime auth must know all sessions
// again.
func TestRedisRestart(t *testing.T) {
	c := startCluster(t, 2)
	clients := startEchoClients(t, 20, 50*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name), NoKey: true}
	})
	awaitRecorded(t, c)
	c.redis.Restart()
	back := time.Now()
	at := clients[0].session.Assignment()
	t.Logf("right after the restart, /v1/reconnect answers %v", post(t, c.url("/v1/reconnect"), at.Token, "{}"))
	await(t, "auth to know all sessions again", recoveryTime, func() bool { return allLocated(c, clients) })
	t.Logf("recovered %v after the restart", time.Since(back))
	awaitEchoes(t, clients, 10*time.Second)
	checkLogout(t, c, clients[0])
}

// awaitRecorded waits until the nodes have written all sessions to the store: until
// the number of lease renewals has not grown for 2.5 s.
func awaitRecorded(t *testing.T, c *cluster) {
	t.Helper()
	const renewals, quiet = `usher_store_seconds_count{op="renew",result="ok"}`, 2500 * time.Millisecond
	last, since := 0.0, time.Now()
	await(t, "the nodes to write their sessions to the store", 15*time.Second, func() bool {
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

// recoveryTime is the longest time that a cluster may need to recover once the
// store is back.
const recoveryTime = 5 * time.Second

// outage makes the store unavailable with takeAway and restores it with bringBack.
// In between logins must fail with 503 within a second, attached clients must not
// be disturbed, clients that were cut must attach again to the same node, and all
// processes must stay ready.
func outage(t *testing.T, takeAway, bringBack func(*cluster)) {
	c := startCluster(t, 3)
	nets := make(map[string]*faultyNet)
	clients := startEchoClients(t, 30, 50*time.Millisecond, func(name string) usher.Config {
		nets[name] = &faultyNet{direct: c.auth.listen}
		t.Cleanup(nets[name].close)
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name), NoKey: true, Dial: nets[name].dial}
	})
	awaitEchoes(t, clients, 30*time.Second)
	awaitRecorded(t, c)

	takeAway(c)
	gone := time.Now()
	cut, untouched := clients[:10], clients[10:]
	for _, ec := range cut {
		nets[ec.session.Assignment().User].cutAll()
	}
	refused := time.Duration(0)
	for n := 0; time.Since(gone) < pick(10*time.Second, 30*time.Second); n++ {
		a := c.login("late")
		refused = max(refused, a.took)
		switch {
		case a.status != 503, a.problem.Code != proto.ProblemStoreUnavailable, a.retryAfter() < 1:
			t.Fatalf("login %d during the outage: %v, Retry-After %q", n, a, a.header.Get("Retry-After"))
		case a.took > time.Second:
			t.Errorf("login %d during the outage was refused after %v, want at most 1 s", n, a.took)
		}
		awaitEchoes(t, untouched, 5*time.Second)
	}
	t.Logf("the slowest refusal of a login took %v", refused)
	for _, ec := range cut {
		node := ec.session.Assignment().Node.ID
		if m, ok := ec.since(usher.Attached, gone); !ok || m.node != node || m.at.Sub(gone) > 5*time.Second {
			t.Errorf("%s was cut during the outage and did not attach to %s again within 5 s: %+v", ec.session.SessionID(), node, m)
		}
	}

	// The readiness check must not fail because the store is unavailable.
	for _, p := range append(slices.Collect(maps.Values(c.nodes)), c.auth) {
		if !p.ready() {
			t.Errorf("%s is not ready during the outage", p.name)
		}
	}
	bringBack(c)
	back := time.Now()
	left := func() time.Duration { return recoveryTime - time.Since(back) }
	late := c.awaitLogin("late", left())
	await(t, "auth to know all sessions again", left(), func() bool { return allLocated(c, clients) })
	t.Logf("recovered %v after the store was back", time.Since(back))

	attach(t, late, "")
	awaitEchoes(t, clients, 10*time.Second)
	checkLogout(t, c, clients[0])
	for _, ec := range untouched {
		if states, resets, _ := ec.view(); len(states) != 1 || len(resets) != 0 {
			t.Errorf("%s was disturbed: %v, resets %q", ec.session.SessionID(), states, resets)
		}
	}
	for _, ec := range cut {
		if _, resets, _ := ec.view(); len(resets) != 0 {
			t.Errorf("%s was cut during the outage and has resets: %q", ec.session.SessionID(), resets)
		}
	}
}

// allLocated reports whether auth assigns every client to the node it is on. It
// fails the test if auth assigns one to another node.
func allLocated(c *cluster, clients []*echoClient) bool {
	for _, ec := range clients {
		at := ec.session.Assignment()
		a := post(c.t, c.url("/v1/reconnect"), at.Token, "{}")
		if a.status != 200 {
			return false
		}
		if a.at.Session != at.Session || a.at.Node != at.Node {
			c.t.Fatalf("session %s is on %s, but auth assigns it to %s", at.Session, at.Node.ID, a.at.Node.ID)
		}
	}
	return true
}

// checkLogout logs the client out by the login API, without the SDK, and checks
// that the session ends with the right close code and cannot reconnect.
func checkLogout(t *testing.T, c *cluster, ec *echoClient) {
	t.Helper()
	if a := post(t, c.url("/v1/logout"), ec.session.Token(), ""); a.status != 204 {
		t.Fatalf("logout: %v", a)
	}
	await(t, "the logout to reach the client", 10*time.Second, func() bool { return ec.session.State() == usher.Ended })
	var end *usher.EndedError
	if m, _ := ec.since(usher.Ended, time.Time{}); !errors.As(m.err, &end) || end.Code != proto.CloseSessionEnded {
		t.Errorf("the session ended with %v, want the close code session_ended", m.err)
	}
	if a := post(t, c.url("/v1/reconnect"), ec.session.Token(), "{}"); a.status != 410 || a.problem.Code != proto.ProblemSessionEnded {
		t.Errorf("reconnect after the logout: %v", a)
	}
}
