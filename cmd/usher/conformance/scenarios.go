package conformance

import (
	"time"

	"github.com/usher-broker/usher/proto"
)

// Messages is how many texts each side sends.
const Messages = 30

// step is how the server treats one attempt to attach.
type step struct {
	// In place of a welcome:
	hangUp  bool            // close the TCP connection without an answer
	status  int             // answer with this HTTP status
	refuse  proto.CloseCode // upgrade, and close with this code
	silent  bool            // upgrade, and send nothing
	garbage string          // send this text

	delay time.Duration // before the welcome
	reset string        // do not resume a stream; the reset has this reason

	// The fault, which occurs when the client has sent this many texts on the connection:
	after    int
	cut      bool            // reset the TCP connection
	midFrame bool            // reset it in the middle of a frame
	halfOpen bool            // ignore the client, send nothing, and leave it open
	close    proto.CloseCode // close with this code
	goaway   bool            // send goaway
	send     string          // send this control
}

// scenario is the script of one session.
type scenario struct {
	name  string
	about string
	// login and reconnect are the nodes that auth assigns: at login, and at each
	// /v1/reconnect. No process listens at the address of nowhere.
	login     string
	reconnect []string
	steps     []step // by attempt; an attempt after the last step has no fault
	// stops is the close code after which the client must not attach again. With 0 the
	// session goes on until all messages have arrived.
	stops proto.CloseCode
	// asks is how often the client has to call /v1/reconnect, at least.
	asks        int
	unreachable bool // the client must name the node that it could not reach
}

// completes reports whether the connection lasts until the end of the session.
func (s step) completes() bool {
	return !s.cut && !s.midFrame && !s.halfOpen && s.close == 0 && !s.goaway && s.refuse == 0 && !s.hangUp && s.status == 0 && !s.silent
}

// minAttempts is how often a client has to attach, at least.
func (s scenario) minAttempts() int {
	n := len(s.steps)
	if n == 0 || !s.steps[n-1].completes() {
		n++
	}
	return n
}

const (
	nodeA   = "node-a"
	nodeB   = "node-b"
	nowhere = "nowhere"
)

var scenarios = []scenario{
	{name: "plain", about: "No fault.", login: nodeA},
	{name: "cut", about: "The connection is reset, twice.", login: nodeA, steps: []step{{after: 5, cut: true}, {after: 5, cut: true}}},
	{name: "cut-idle", about: "The connection is reset before any message, twice.", login: nodeA, steps: []step{{cut: true}, {cut: true}}},
	{name: "mid-frame", about: "The connection is reset in the middle of a message of the node.", login: nodeA, steps: []step{{after: 5, midFrame: true}}},
	{name: "half-open", about: "The node falls silent and the connection stays open. The client abandons it after 2.5 ping intervals of 400 ms.", login: nodeA, steps: []step{{after: 5, halfOpen: true}}},
	{name: "refused", about: "The connection is refused. The client calls auth and names the node.", login: nowhere, reconnect: []string{nodeB}, asks: 1, unreachable: true},
	{name: "hung-up", about: "The node closes before it answers. The client does the same.", login: nodeA, reconnect: []string{nodeB}, steps: []step{{hangUp: true}}, asks: 1, unreachable: true},
	{name: "bad-gateway", about: "The answer is 502. The client does the same.", login: nodeA, reconnect: []string{nodeB}, steps: []step{{status: 502}}, asks: 1, unreachable: true},
	{name: "slow", about: "The welcome takes 2 s.", login: nodeA, steps: []step{{delay: 2 * time.Second, after: 5, cut: true}, {delay: 2 * time.Second}}},
	{name: "silent", about: "No welcome comes. The client abandons the connection after about 5 s and attaches again.", login: nodeA, steps: []step{{silent: true}}},
	{name: "moved", about: "4202. The client calls auth and attaches to the other node.", login: nodeA, reconnect: []string{nodeB}, steps: []step{{after: 5, close: proto.CloseMoved}}, asks: 1},
	{name: "drained", about: "goaway. The client attaches to the other node while the old connection stays open.", login: nodeA, reconnect: []string{nodeB}, steps: []step{{after: 5, goaway: true}}, asks: 1},
	{name: "shut-down", about: "4200. The client calls auth and attaches to the other node.", login: nodeA, reconnect: []string{nodeB}, steps: []step{{after: 5, close: proto.CloseGoingAway}}, asks: 1},
	{name: "full", about: "4203 in place of a welcome. The client does the same.", login: nodeA, reconnect: []string{nodeB}, steps: []step{{refuse: proto.CloseFull}}, asks: 1},
	{name: "expired", about: "4201 in place of a welcome after a cut. The client gets a new token from auth.", login: nodeA, reconnect: []string{nodeA}, steps: []step{{after: 5, cut: true}, {refuse: proto.CloseTokenExpired}}, asks: 1},
	{name: "too-slow", about: "4100. The client attaches to the same node again.", login: nodeA, steps: []step{{after: 5, close: proto.CloseTooSlow}}},
	{name: "three-failures", about: "4103 three times in place of a welcome. The client calls auth.", login: nodeA, reconnect: []string{nodeB}, steps: []step{{refuse: proto.CloseInternal}, {refuse: proto.CloseInternal}, {refuse: proto.CloseInternal}}, asks: 1},
	{name: "reset", about: "A cut, then a reset (node_lost). The client counts its messages from 1 again, and repeats none.", login: nodeA, steps: []step{{after: 5, cut: true}, {reset: proto.ResetNodeLost}}},
	{name: "unknown-control", about: "A control of an unknown type. The client ignores it.", login: nodeA, steps: []step{{after: 5, send: `{"type":"fanfare","loud":true}`}}},
	{name: "kicked", about: "4002. The client stops.", login: nodeA, steps: []step{{after: 5, close: proto.CloseKicked}}, stops: proto.CloseKicked},
	{name: "application", about: "4500, a code of the application. The client stops.", login: nodeA, steps: []step{{after: 5, close: 4500}}, stops: 4500},
	{name: "garbage", about: "An invalid control. The client closes with 4000 and stops.", login: nodeA, steps: []step{{after: 5, send: `{"type":"ack","received":-1}`}}, stops: proto.CloseProtocolError},
	{name: "garbage-first", about: "Another control in place of the welcome. The client closes with 4000 and stops.", login: nodeA, steps: []step{{garbage: `{"type":"ack","received":0}`}}, stops: proto.CloseProtocolError},
	{name: "future", about: "An acknowledgement of messages that were never sent. The client closes with 4000 and stops.", login: nodeA, steps: []step{{after: 5, send: `{"type":"ack","received":9007199254740991}`}}, stops: proto.CloseProtocolError},
}

// Names returns the names of the scenarios.
func Names() []string {
	names := make([]string, len(scenarios))
	for i, s := range scenarios {
		names[i] = s.name
	}
	return names
}

func find(name string) (scenario, bool) {
	for _, s := range scenarios {
		if s.name == name {
			return s, true
		}
	}
	return scenario{}, false
}

// Scenario is the name and the description of a scenario.
type Scenario struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

// List returns the scenarios.
func List() []Scenario {
	list := make([]Scenario, len(scenarios))
	for i, s := range scenarios {
		list[i] = Scenario{s.name, s.about}
	}
	return list
}
