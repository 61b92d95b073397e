package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// TestMalformed sends malformed requests, tokens and frames to auth and a node and
// checks the answers. It then repeats all of them many times and checks that
// goroutines and memory do not grow.
func TestMalformed(t *testing.T) {
	c := startCluster(t, 1)
	node := c.nodes["node-1"]
	good := c.mustLogin("ada")
	tokens := brokenTokens(t, c, good)
	all := func() {
		for _, r := range authRequests(tokens) {
			r.check(t, c.url(""))
		}
		for _, r := range handshakes(good, tokens) {
			r.check(t, "http://"+node.listen)
		}
		for _, f := range brokenFrames() {
			f.check(t, good)
		}
		for _, q := range brokenQueries() {
			q.check(t, good)
		}
		for _, k := range rejectedConnections(t, c, good) {
			k.check(t, good)
		}
		oldProtocol(t, node.listen, good)
		rawFrames(t, node.listen, good)
	}
	all()
	if t.Failed() {
		return // do not repeat the failures
	}

	type usage struct{ goroutines, resident float64 }
	measureUsage := func(p *process) usage {
		for range 2 { // the second collection frees what the first one finalized
			if a := post(t, p.ops+"/debug/free", "", ""); a.status != 204 {
				t.Fatalf("freeing memory: %v", a)
			}
		}
		m := p.metrics()
		return usage{m["go_goroutines"], m["process_resident_memory_bytes"]}
	}
	await(t, "the session to be detached", 10*time.Second, func() bool {
		return node.metrics()[`usher_node_sessions{state="attached"}`] == 0
	})
	both := []*process{c.auth, node}
	before := []usage{measureUsage(c.auth), measureUsage(node)}
	rounds := pick(10, 100)
	for range rounds {
		all()
	}
	for i, p := range both {
		await(t, p.name+" to have no more goroutines than before", 30*time.Second, func() bool {
			return measureUsage(p).goroutines <= before[i].goroutines+5
		})
		after := measureUsage(p)
		t.Logf("%s after %d rounds: %+v, before %+v", p.name, rounds, after, before[i])
		if grown := after.resident - before[i].resident; grown > 16<<20 {
			t.Errorf("%s has grown by %.1f MB", p.name, grown/(1<<20))
		}
		if !p.ready() {
			t.Errorf("%s is no longer ready", p.name)
		}
	}
	// The session that sent all this must still be served.
	ws, _ := attach(t, good, "")
	sendText(t, ws, "hello")
	expectText(t, ws, "hello")
}

// brokenFrame is a frame that a client must not send, and the close code for it.
type brokenFrame struct {
	name  string
	typ   websocket.MessageType
	bytes string
	code  proto.CloseCode
}

func brokenFrames() []brokenFrame {
	const text, binary = websocket.MessageText, websocket.MessageBinary
	const bug, large = proto.CloseProtocolError, proto.CloseTooLarge
	return []brokenFrame{
		{"no kind byte", binary, "", bug},
		{"unknown kind", binary, "\x04hi", bug},
		{"all bits", binary, "\xffhi", bug},
		{"text that is not UTF-8", binary, "\x01\xff\xfe", bug},
		{"message too large", binary, "\x00" + strings.Repeat("x", 64<<10+1), large},
		{"message much too large", binary, "\x00" + strings.Repeat("x", 4<<20), large},
		{"control too large", text, `{"type":"ack","received":0,"x":"` + strings.Repeat("x", 4<<10) + `"}`, large},
		{"no JSON", text, "hello", bug},
		{"empty control", text, "", bug},
		{"no object", text, `[1,2]`, bug},
		{"no type", text, `{"received":0}`, bug},
		{"type of another case", text, `{"Type":"ack","received":0}`, bug},
		{"unknown type", text, `{"type":"nope"}`, bug},
		{"welcome from a client", text, `{"type":"welcome"}`, bug},
		{"trailing text", text, `{"type":"ack","received":0}x`, bug},
		{"ack without a count", text, `{"type":"ack"}`, bug},
		{"ack with text", text, `{"type":"ack","received":"0"}`, bug},
		{"negative ack", text, `{"type":"ack","received":-1}`, bug},
		{"huge ack", text, `{"type":"ack","received":18446744073709551616}`, bug},
		{"ack of what was not sent", text, `{"type":"ack","received":900}`, bug},
		{"deep control", text, `{"type":"ack","received":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`, bug},
	}
}

func (f brokenFrame) check(t *testing.T, at proto.Assignment) {
	t.Helper()
	ws, _ := attach(t, at, "")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = ws.Write(ctx, f.typ, []byte(f.bytes)) // the node may close the connection before this returns
	if code := awaitClose(ws); code != f.code {
		t.Errorf("%s: closed with %d, want %d", f.name, code, f.code)
	}
}

// awaitClose reads until the connection is closed, for 10 s at most, and returns
// the close code, 0 if there was none.
func awaitClose(ws *websocket.Conn) proto.CloseCode {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	defer ws.CloseNow()
	for {
		_, _, err := ws.Read(ctx)
		if err == nil {
			continue
		}
		return proto.CloseCode(max(0, websocket.CloseStatus(err)))
	}
}

// refusal is a connection that the node upgrades and then closes with a code.
type refusal struct {
	name  string
	token string // "" for the valid token
	query string
	code  proto.CloseCode
}

func (r refusal) check(t *testing.T, at proto.Assignment) {
	t.Helper()
	if r.token != "" {
		at.Token = r.token
	}
	if code := awaitClose(dial(t, at, r.query)); code != r.code {
		t.Errorf("%s: closed with %d, want %d", r.name, code, r.code)
	}
}

func brokenQueries() []refusal {
	const bug = proto.CloseProtocolError
	return []refusal{
		{name: "stream without a count", query: "?stream=x", code: bug},
		{name: "negative count", query: "?stream=x&received=-1", code: bug},
		{name: "huge count", query: "?stream=x&received=9007199254740992", code: bug},
		{name: "count with a plus", query: "?stream=x&received=%2B1", code: bug},
		{name: "no count", query: "?stream=x&received=many", code: bug},
		{name: "negative attempt", query: "?attempt=-1", code: bug},
		{name: "long stream", query: "?received=0&stream=" + strings.Repeat("x", 129), code: bug},
	}
}
