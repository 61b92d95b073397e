package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// TestKick kicks attached sessions on three nodes by the private API. Each
// connection must be closed within a second with the given reason, and the token
// must be refused by auth and by every node afterwards.
func TestKick(t *testing.T) {
	c := startCluster(t, 3)
	api := c.startBroker()
	api.awaitEligible(3)
	var waits []time.Duration
	for i := range pick(60, 300) {
		name := fmt.Sprint("player-", i)
		at := c.mustLogin(name)
		ws, welcome := attach(t, at, "")
		closed := make(chan error, 1)
		go func() { closed <- readToEnd(ws) }()
		path := "/v1/sessions/" + at.Session
		if i%2 == 1 {
			path = "/v1/users/" + name + "/sessions"
		}
		began := time.Now()
		request(t, http.MethodDelete, "http://"+api.listen+path+"?reason=cheating")
		err := <-closed
		waits = append(waits, time.Since(began))
		var end websocket.CloseError
		if !errors.As(err, &end) || int(end.Code) != int(proto.CloseKicked) || end.Reason != "cheating" {
			t.Fatalf("closed with %v", err)
		}
		if a := post(t, c.url("/v1/reconnect"), at.Token, "{}"); a.status != http.StatusGone {
			t.Errorf("reconnect: %v", a)
		}
		for _, node := range c.nodes { // the session's node and the others
			again := at
			again.Node.URL = node.url
			code := closeCode(dial(t, again, "?received=0&stream="+welcome.Stream))
			if code != proto.CloseKicked && code != proto.CloseMoved {
				t.Errorf("attaching to %s with the kicked session's token: closed with %d", node.name, code)
			}
		}
	}
	slices.Sort(waits)
	share := pick(95, 99) // p99 of 60 is the slowest one, and a loaded machine may stall
	late := waits[len(waits)*share/100]
	t.Logf("%d kicks: closed after p50 %v, p%d %v, max %v", len(waits), waits[len(waits)/2].Round(time.Millisecond),
		share, late.Round(time.Millisecond), waits[len(waits)-1].Round(time.Millisecond))
	if late > time.Second {
		t.Errorf("p%d of the time until the close is %v, want at most 1 s", share, late)
	}
}

// TestKickWithoutGossip kicks a session by a broker that has no gossip with the
// nodes, as when the gossip is partitioned or slow. The session's node must learn
// of the kick from the store, within 5 s.
func TestKickWithoutGossip(t *testing.T) {
	c := startCluster(t, 1)
	isolated := startRole(t, "isolated", "broker", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--gossip-label=elsewhere", "--redis="+c.redis.URL())
	at := c.mustLogin("ada")
	ws, _ := attach(t, at, "")
	time.Sleep(1500 * time.Millisecond) // the node has asked the store once
	began := time.Now()
	request(t, http.MethodDelete, "http://"+isolated.listen+"/v1/sessions/"+at.Session+"?reason=cheating")
	var end websocket.CloseError
	if err := readToEnd(ws); !errors.As(err, &end) || int(end.Code) != int(proto.CloseKicked) || end.Reason != "cheating" {
		t.Errorf("closed with %v", err)
	}
	t.Logf("closed after %v", time.Since(began).Round(time.Millisecond))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closed after %v, want at most 5 s", took)
	}
}

// readToEnd reads until the connection ends and returns the error.
func readToEnd(ws *websocket.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		if _, _, err := ws.Read(ctx); err != nil {
			return err
		}
	}
}

// closeCode reads until the connection ends and returns the close code, -1 if
// there was none.
func closeCode(ws *websocket.Conn) proto.CloseCode {
	return proto.CloseCode(websocket.CloseStatus(readToEnd(ws)))
}

// TestLoginRaces logs one user in at two auths at the same time, many times. One
// of the two sessions must remain, and only that one can attach.
func TestLoginRaces(t *testing.T) {
	c := startCluster(t, 2)
	second := c.startAuth("auth-2")
	api := c.startBroker()
	api.awaitEligible(2)
	auths := []string{c.auth.listen, second.listen}
	for i := range pick(100, 1000) {
		user := fmt.Sprint("racer-", i)
		var answers [2]answer
		var both sync.WaitGroup
		for k, addr := range auths {
			both.Go(func() {
				answers[k] = post(t, "http://"+addr+"/v1/login", "", fmt.Sprintf(`{"method":"guest","credentials":{"name":%q}}`, user))
			})
		}
		both.Wait()
		var list struct{ Sessions []struct{ ID string } }
		get(t, "http://"+api.listen+"/v1/users/"+user+"/sessions", &list)
		if answers[0].status != 200 || answers[1].status != 200 || len(list.Sessions) != 1 ||
			list.Sessions[0].ID != answers[0].at.Session && list.Sessions[0].ID != answers[1].at.Session {
			t.Fatalf("race %d: answers %v and %v; remaining sessions %+v", i, answers[0], answers[1], list)
		}
		if i%20 != 0 {
			continue
		}
		for _, a := range answers {
			ws := dial(t, a.at, "")
			if a.at.Session == list.Sessions[0].ID {
				_ = ws.CloseNow()
			} else if code := closeCode(ws); code != proto.CloseKicked {
				t.Errorf("the session that lost: closed with %d", code)
			}
		}
	}
}

// TestDuplicateLogins checks that --duplicate-logins=reject answers 409 to a second
// login while the session of the first one exists, attached or not.
func TestDuplicateLogins(t *testing.T) {
	c := startCluster(t, 1, "--duplicate-logins=reject")
	at := c.mustLogin("ada")
	if a := c.login("ada"); a.status != http.StatusConflict {
		t.Errorf("a second login: %v", a)
	}
	ws, _ := attach(t, at, "")
	if a := c.login("ada"); a.status != http.StatusConflict {
		t.Errorf("a second login of an attached user: %v", a)
	}
	_ = ws.CloseNow()
	c.awaitLogin("ada", 10*time.Second) // succeeds once the node has seen the disconnect
}
