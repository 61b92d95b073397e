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

// TestWrongAddress starts nodes that the members of the cluster can reach by
// gossip and that clients cannot reach, for several reasons. Auth must assign
// no client to them, and within ten seconds usher nodes, usher explain and the
// metrics must give the reason.
func TestWrongAddress(t *testing.T) {
	c := startCluster(t, 2)
	api := c.startBroker()
	api.awaitEligible(2)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	wrong := map[string]struct{ url, why string }{
		"closed-port":  {"ws://127.0.0.1:1/v1/connect", "connection refused"},
		"other-node":   {c.nodes["node-1"].url, "another node answers"},
		"not-a-node":   {"ws" + strings.TrimPrefix(other.URL, "http") + "/v1/connect", "404 Not Found"},
		"expired-cert": {"wss://" + expiredTLS(t) + "/v1/connect", "certificate"},
		"no-such-name": {"ws://nowhere.invalid:7000/v1/connect", ""}, // the text comes from the resolver, or it is a timeout
	}
	for id, w := range wrong {
		c.startNode(id, "--advertise="+w.url)
		delete(c.nodes, id) // awaitNodes must not wait for it
	}
	began := time.Now()
	for i := 0; time.Since(began) < 10*time.Second; i++ {
		if a := c.mustLogin(fmt.Sprint("user-", i)); wrong[a.Node.ID].url != "" {
			t.Fatalf("a login was assigned to %s, which clients cannot reach", a.Node.ID)
		}
		time.Sleep(2 * time.Millisecond)
	}
	output := usherCommand(t, 0, "nodes", "--api=http://"+api.listen)
	t.Logf("usher nodes:\n%s", output)
	metrics := c.auth.metrics()
	for id, w := range wrong {
		found := false
		for line := range strings.Lines(output) {
			found = found || strings.HasPrefix(line, id+" ") && strings.Contains(line, " never_reached ") && strings.Contains(line, "no: clients cannot connect: ") && strings.Contains(line, w.why)
		}
		if !found {
			t.Errorf("usher nodes does not list %s as never reached because of %q", id, w.why)
		}
		inMetric := false
		for name := range metrics {
			inMetric = inMetric || strings.HasPrefix(name, `usher_node_unreachable{node="`+id+`"`)
		}
		if !inMetric {
			t.Errorf("no metric usher_node_unreachable for %s", id)
		}
	}
	if n := metrics[`usher_nodes{reach="never_reached"}`]; int(n) != len(wrong) {
		t.Errorf("the metric counts %v nodes that were never reached, want %d", n, len(wrong))
	}
	why := usherCommand(t, 0, "explain", "--user=ada", "--api=http://"+api.listen)
	t.Logf("usher explain:\n%s", why)
	if !strings.HasPrefix(why, "A login of ada would go to node-") || !strings.Contains(why, "connection refused") {
		t.Error("usher explain does not name the node it would choose, or not the reason for the excluded ones")
	}
}

// TestNodeBecomesUnreachable checks that a running node whose public address
// stops accepting connections gets no logins after three failed probes, and
// gets logins again after two successful ones.
func TestNodeBecomesUnreachable(t *testing.T) {
	c := startCluster(t, 1, "--probe-interval=200ms")
	proxy := newTCPProxy(t)
	node := c.startNode("behind", "--advertise=ws://"+proxy.addr()+"/v1/connect")
	proxy.start(node.listen)
	receivesLogins := func(want bool) func() bool {
		return func() bool {
			for i := range 8 {
				if c.mustLogin(fmt.Sprint("user-", i)).Node.ID == "behind" {
					return want
				}
			}
			return !want
		}
	}
	await(t, "logins to be assigned to the node", 10*time.Second, receivesLogins(true))
	proxy.stop()
	began := time.Now()
	await(t, "logins to be assigned to other nodes only", 10*time.Second, receivesLogins(false))
	t.Logf("proxy stopped: the node got its last login within %v", time.Since(began).Round(time.Millisecond))
	proxy.start(node.listen)
	await(t, "logins to be assigned to the node again", 10*time.Second, receivesLogins(true))
}

// expiredTLS starts a TLS server whose certificate expired yesterday and
// returns its address.
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
				_ = conn.(*tls.Conn).Handshake() // the client refuses the certificate
			}()
		}
	}()
	return ln.Addr().String()
}

// TestPublishedPort starts a node that advertises a range of published ports,
// none of which leads to the node yet. The node must be neither ready nor a
// member of the cluster until one of the ports does.
func TestPublishedPort(t *testing.T) {
	c := startCluster(t, 1)
	proxy := newTCPProxy(t)
	_, port, err := net.SplitHostPort(proxy.addr())
	if err != nil {
		t.Fatal(err)
	}
	ops := "127.0.0.1:" + freePort(t)
	listen := "127.0.0.1:" + freePort(t)
	p := start(t, "published", "node", "--id=published", "--listen="+listen, "--gossip=127.0.0.1:0", "--join="+c.auth.gossip,
		"--redis="+c.redis.URL(), "--jwks="+c.url("/.well-known/jwks.json"), "--log-format=json", "--ops="+ops,
		"--advertise=ws://127.0.0.1:"+port+"-"+port)
	p.ops = "http://" + ops
	reports := func(text string) bool {
		resp, err := web.Get(p.ops + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(body), text)
	}
	p.await("report what it waits for", startTimeout, func() bool { return reports("the public address is not known yet") })
	if p.ready() {
		t.Error("the node is ready before it knows its public address")
	}
	for i := range 20 {
		if a := c.mustLogin(fmt.Sprint("early-", i)); a.Node.ID != "node-1" {
			t.Fatalf("a login was assigned to %s, want node-1", a.Node.ID)
		}
	}
	proxy.start(listen)
	p.awaitStarted()
	if want := "ws://127.0.0.1:" + port + "/v1/connect"; p.url != want {
		t.Errorf("the node advertises %s, want %s", p.url, want)
	}
	await(t, "a login to be assigned to the node", startTimeout, func() bool { return c.mustLogin("late").Node.ID == "published" })
}
