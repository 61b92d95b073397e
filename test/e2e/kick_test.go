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

// TestKick throws out attached sessions by the private API, each on the node it
// is on: the connection is closed within a second, with the reason, and no token
// opens anything after.
func TestKick(t *testing.T) {
	c := startCluster(t, 3)
	api := c.startBroker()
	api.knows(3)
	var waits []time.Duration
	for i := range pick(60, 300) {
		name := fmt.Sprint("player-", i)
		at := c.enter(name)
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
		for _, node := range c.nodes { // its own, and the others
			again := at
			again.Node.URL = node.url
			code := closeCode(dial(t, again, "?received=0&stream="+welcome.Stream))
			if code != proto.CloseKicked && code != proto.CloseMoved {
				t.Errorf("the token at %s: closed with %d", node.name, code)
			}
		}
	}
	slices.Sort(waits)
	share := pick(95, 99) // of a few dozen the 99th part is one, on a machine that may stall
	late := waits[len(waits)*share/100]
	t.Logf("%d kicks: closed after p50 %v, p%d %v, all %v", len(waits), waits[len(waits)/2].Round(time.Millisecond),
		share, late.Round(time.Millisecond), waits[len(waits)-1].Round(time.Millisecond))
	if late > time.Second {
		t.Errorf("p%d %v", share, late)
	}
}

// TestKickUnheard throws a session out by a broker that hears nothing of the
// nodes, as with gossip that is split or late: its node hears of it from the
// store.
func TestKickUnheard(t *testing.T) {
	c := startCluster(t, 1)
	deaf := startRole(t, "deaf", "broker", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--gossip-label=elsewhere", "--redis="+c.redis.URL())
	at := c.enter("ada")
	ws, _ := attach(t, at, "")
	time.Sleep(1500 * time.Millisecond) // the node has looked
	began := time.Now()
	request(t, http.MethodDelete, "http://"+deaf.listen+"/v1/sessions/"+at.Session+"?reason=cheating")
	var end websocket.CloseError
	if err := readToEnd(ws); !errors.As(err, &end) || int(end.Code) != int(proto.CloseKicked) || end.Reason != "cheating" {
		t.Errorf("closed with %v", err)
	}
	t.Logf("closed after %v", time.Since(began).Round(time.Millisecond))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closed after %v", took)
	}
}

func readToEnd(ws *websocket.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		if _, _, err := ws.Read(ctx); err != nil {
			return err
		}
	}
}

func closeCode(ws *websocket.Conn) proto.CloseCode {
	return proto.CloseCode(websocket.CloseStatus(readToEnd(ws)))
}

// TestLoginRaces logs one user in at two auths at the same moment, many times:
// one session is left, and it is one of the two.
func TestLoginRaces(t *testing.T) {
	c := startCluster(t, 2)
	second := c.startAuth("auth-2")
	api := c.startBroker()
	api.knows(2)
	doors := []string{c.auth.listen, second.listen}
	for i := range pick(100, 1000) {
		user := fmt.Sprint("racer-", i)
		var answers [2]answer
		var both sync.WaitGroup
		for k, door := range doors {
			both.Go(func() {
				answers[k] = post(t, "http://"+door+"/v1/login", "", fmt.Sprintf(`{"method":"guest","credentials":{"name":%q}}`, user))
			})
		}
		both.Wait()
		var list struct{ Sessions []struct{ ID string } }
		get(t, "http://"+api.listen+"/v1/users/"+user+"/sessions", &list)
		if answers[0].status != 200 || answers[1].status != 200 || len(list.Sessions) != 1 ||
			list.Sessions[0].ID != answers[0].at.Session && list.Sessions[0].ID != answers[1].at.Session {
			t.Fatalf("race %d: %v and %v; left are %+v", i, answers[0], answers[1], list)
		}
		if i%20 != 0 {
			continue
		}
		for _, a := range answers { // and one can attach
			ws := dial(t, a.at, "")
			if a.at.Session == list.Sessions[0].ID {
				_ = ws.CloseNow()
			} else if code := closeCode(ws); code != proto.CloseKicked {
				t.Errorf("the session that lost: closed with %d", code)
			}
		}
	}
}

// TestDuplicateLogins: the policies, from the outside.
func TestDuplicateLogins(t *testing.T) {
	c := startCluster(t, 1, "--duplicate-logins=reject")
	at := c.enter("ada")
	if a := c.login("ada"); a.status != http.StatusConflict {
		t.Errorf("a second login: %v", a)
	}
	ws, _ := attach(t, at, "")
	if a := c.login("ada"); a.status != http.StatusConflict {
		t.Errorf("a second login of one who is attached: %v", a)
	}
	_ = ws.CloseNow()
	c.awaitLogin("ada", 10*time.Second) // once the node has noticed
}
