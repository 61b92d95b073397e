package auth

import (
	"strings"
	"testing"

	"github.com/usher-broker/usher/proto"

	"github.com/usher-broker/usher/broker/httpapi"
)

// The nodes of the fixture have ws:// addresses.
func TestNodesWithoutTLSAreNotForHTTPS(t *testing.T) {
	d := newFixture(t, nil)
	d.login(adaLogin, "X-Forwarded-Proto", "https").assignment(t) // anyone can send that
	d.cfg.TrustedProxies = append(d.cfg.TrustedProxies, httpapi.ClientNetwork(addr("192.0.2.1")))
	for _, proto := range []string{"", "http", "http, https"} {
		d.login(adaLogin, "X-Forwarded-Proto", proto).assignment(t)
	}
	if len(d.broker.ended) != 0 {
		t.Fatalf("ended %v", d.broker.ended)
	}
	for _, said := range []string{"https", "HTTPS, http"} {
		d.login(adaLogin, "X-Forwarded-Proto", said).problem(t, 503, proto.ProblemInsecureNode)
	}
	if len(d.broker.ended) != 2 || d.broker.ended[0] != testSession {
		t.Errorf("the sessions that were opened and not used: ended %v", d.broker.ended)
	}
	d.do("POST", "/v1/reconnect", "", "Authorization", "Bearer "+d.token(nil), "X-Forwarded-Proto", "https").
		problem(t, 503, proto.ProblemInsecureNode)
	if len(d.broker.ended) != 2 {
		t.Error("an older session has ended")
	}
	if log := d.log.String(); !strings.Contains(log, "node-7") || !strings.Contains(log, testURL) {
		t.Errorf("log is %s", log)
	}
}
