package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestWrongAddress starts nodes that members of the cluster hear and clients
// cannot reach, in several ways: none is ever named to a client, and within ten
// seconds the operator reads why.
func TestWrongAddress(t *testing.T) {
	c := startCluster(t, 2)
	api := c.startBroker()
	api.knows(2)
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	wrong := map[string]struct{ url, why string }{
		"closed-port":  {"ws://127.0.0.1:1/v1/connect", "connection refused"},
		"other-node":   {c.nodes["node-1"].url, "another node answers there"},
		"not-a-node":   {"ws" + strings.TrimPrefix(elsewhere.URL, "http") + "/v1/connect", "404 Not Found"},
		"expired-cert": {"wss://" + expiredTLS(t) + "/v1/connect", "certificate"},
		"no-such-name": {"ws://nowhere.invalid:7000/v1/connect", ""}, // in the words of the resolver, or that it is late
	}
	for id, w := range wrong {
		p := c.startNode(id, "--advertise="+w.url)
		delete(c.nodes, id) // it is none that serves
		_ = p
	}
	began := time.Now()
	for i := 0; time.Since(began) < 10*time.Second; i++ {
		if a := c.enter(fmt.Sprint("user-", i)); wrong[a.Node.ID].url != "" {
			t.Fatalf("a client was sent to %s", a.Node.ID)
		}
		time.Sleep(2 * time.Millisecond)
	}
	said := usherCommand(t, 0, "nodes", "--api=http://"+api.listen)
	t.Logf("usher nodes:\n%s", said)
	metrics := c.auth.metrics()
	for id, w := range wrong {
		found := false
		for line := range strings.Lines(said) {
			found = found || strings.HasPrefix(line, id+" ") && strings.Contains(line, " shut ") && strings.Contains(line, "no: no client can get in: ") && strings.Contains(line, w.why)
		}
		if !found {
			t.Errorf("usher nodes does not say of %s that %q", id, w.why)
		}
		inMetric := false
		for name := range metrics {
			inMetric = inMetric || strings.HasPrefix(name, `usher_node_unreachable{node="`+id+`"`)
		}
		if !inMetric {
			t.Errorf("no metric says that %s cannot be reached", id)
		}
	}
	if n := metrics[`usher_nodes{reach="shut"}`]; int(n) != len(wrong) {
		t.Errorf("%v nodes shut, by the metric", n)
	}
	why := usherCommand(t, 0, "explain", "--user=ada", "--api=http://"+api.listen)
	t.Logf("usher explain:\n%s", why)
	if !strings.HasPrefix(why, "A login of ada would go to node-") || !strings.Contains(why, "connection refused") {
		t.Error("usher explain does not say it")
	}
}

// TestDoorShutsAndOpens: a node whose door is shut while it lives gets no logins
// after three probes, and some again after two that get in.
func TestDoorShutsAndOpens(t *testing.T) {
	c := startCluster(t, 1, "--probe-interval=200ms")
	door := newDoor(t)
	node := c.startNode("behind", "--advertise=ws://"+door.addr()+"/v1/connect")
	door.open(node.listen)
	gets := func(want bool) func() bool {
		return func() bool {
			for i := range 8 {
				if c.enter(fmt.Sprint("user-", i)).Node.ID == "behind" {
					return want
				}
			}
			return !want
		}
	}
	await(t, "logins to be sent there", 10*time.Second, gets(true))
	door.shut()
	began := time.Now()
	await(t, "logins not to be sent there", 10*time.Second, gets(false))
	t.Logf("shut: the last login was sent there after %v", time.Since(began).Round(time.Millisecond))
	door.open(node.listen)
	await(t, "logins to be sent there again", 10*time.Second, gets(true))
}

// expiredTLS serves TLS with a certificate that was good until yesterday, and
// returns where.
func expiredTLS(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "node"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.(*tls.Conn).Handshake() // it is refused
			}()
		}
	}()
	return ln.Addr().String()
}

// TestPublishedPort starts a node that is told a range of ports, of which none leads
// to it yet: it is not ready and no member, until one does.
func TestPublishedPort(t *testing.T) {
	c := startCluster(t, 1)
	door := newDoor(t)
	_, port, err := net.SplitHostPort(door.addr())
	if err != nil {
		t.Fatal(err)
	}
	ops := "127.0.0.1:" + free(t)
	listen := "127.0.0.1:" + free(t)
	p := start(t, "published", "node", "--id=published", "--listen="+listen, "--gossip=127.0.0.1:0", "--join="+c.auth.gossip,
		"--redis="+c.redis.URL(), "--jwks="+c.url("/.well-known/jwks.json"), "--log-format=json", "--ops="+ops,
		"--advertise=ws://127.0.0.1:"+port+"-"+port)
	p.ops = "http://" + ops
	says := func(text string) bool {
		resp, err := web.Get(p.ops + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(body), text)
	}
	p.await("say what it waits for", starts, func() bool { return says("the public address is not known yet") })
	if p.ready() {
		t.Error("it is ready without an address")
	}
	for i := range 20 {
		if a := c.enter(fmt.Sprint("early-", i)); a.Node.ID != "node-1" {
			t.Fatalf("a client was sent to %s", a.Node.ID)
		}
	}
	door.open(listen)
	p.awaitRuns()
	if want := "ws://127.0.0.1:" + port + "/v1/connect"; p.url != want {
		t.Errorf("it is at %s, want %s", p.url, want)
	}
	await(t, "a login to be sent there", starts, func() bool { return c.enter("late").Node.ID == "published" })
}
