package conformance

import (
	"time"

	"github.com/usher-broker/usher/proto"
)

// Messages is how many texts each side sends.
const Messages = 30

// act is what the server does with one attempt to attach.
type act struct {
	// Instead of a welcome:
	hangUp  bool            // close the TCP connection before it is answered
	status  int             // answer with this HTTP status
	refuse  proto.CloseCode // upgrade, and close with this
	silent  bool            // upgrade, and never say a word
	garbage string          // say this, in place of a welcome

	delay time.Duration // before the welcome
	reset string        // do not resume a stream: this is the reason

	// What ends the connection, after so many texts of the client have come on it.
	after    int
	cut      bool            // reset the TCP connection
	midFrame bool            // the same, in the middle of a frame
	halfOpen bool            // do nothing any more, and leave it open
	close    proto.CloseCode // close with this
	goaway   bool            // ask to leave
	say      string          // send this control
}

// scenario is a story that begins with a login under its name.
type scenario struct {
	name  string
	about string
	// login and reconnect say which node auth names: at login, and each time it is
	// asked again. "nowhere" is an address at which nobody listens.
	login     string
	reconnect []string
	acts      []act // by attempt; the one after the last serves to the end
	// stops is the close code after which the client must not come back; 0 for one
	// that is to finish.
	stops proto.CloseCode
	// asks is how often the client has to ask auth where to go; -1: at least once.
	asks        int
	unreachable bool // and names the node that it could not reach
}

// serves reports whether a session can be served to the end on the connection.
func (a act) serves() bool {
	return !a.cut && !a.midFrame && !a.halfOpen && a.close == 0 && !a.goaway && a.refuse == 0 && !a.hangUp && a.status == 0 && !a.silent
}

// attempts is how often a client has to attach, at the least.
func (s scenario) attempts() int {
	n := len(s.acts)
	if n == 0 || !s.acts[n-1].serves() {
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
	{name: "plain", about: "Nothing happens.", login: nodeA},
	{name: "cut", about: "The connection is reset, twice.", login: nodeA, acts: []act{{after: 5, cut: true}, {after: 5, cut: true}}},
	{name: "cut-idle", about: "It is cut before anything was said, and again.", login: nodeA, acts: []act{{cut: true}, {cut: true}}},
	{name: "mid-frame", about: "It is cut in the middle of a message of the node.", login: nodeA, acts: []act{{after: 5, midFrame: true}}},
	{name: "half-open", about: "The node falls silent and the connection stays open: the client gives it up after 2.5 ping intervals of 400 ms.", login: nodeA, acts: []act{{after: 5, halfOpen: true}}},
	{name: "refused", about: "Nobody listens at the address: the client asks auth, and names the node.", login: nowhere, reconnect: []string{nodeB}, asks: 1, unreachable: true},
	{name: "hung-up", about: "The node closes before it answers: the same.", login: nodeA, reconnect: []string{nodeB}, acts: []act{{hangUp: true}}, asks: 1, unreachable: true},
	{name: "bad-gateway", about: "Something answers 502.", login: nodeA, reconnect: []string{nodeB}, acts: []act{{status: 502}}, asks: 1, unreachable: true},
	{name: "slow", about: "The welcome takes 2 s.", login: nodeA, acts: []act{{delay: 2 * time.Second, after: 5, cut: true}, {delay: 2 * time.Second}}},
	{name: "silent", about: "There is no welcome: the client gives up after about 5 s, and attaches again.", login: nodeA, acts: []act{{silent: true}}},
	{name: "moved", about: "4202: the client asks auth and attaches elsewhere.", login: nodeA, reconnect: []string{nodeB}, acts: []act{{after: 5, close: proto.CloseMoved}}, asks: 1},
	{name: "drained", about: "goaway: the client attaches elsewhere while the old connection stays open.", login: nodeA, reconnect: []string{nodeB}, acts: []act{{after: 5, goaway: true}}, asks: 1},
	{name: "shut-down", about: "4200 in the middle.", login: nodeA, reconnect: []string{nodeB}, acts: []act{{after: 5, close: proto.CloseGoingAway}}, asks: 1},
	{name: "full", about: "4203 in place of a welcome.", login: nodeA, reconnect: []string{nodeB}, acts: []act{{refuse: proto.CloseFull}}, asks: 1},
	{name: "expired", about: "4201 in place of a welcome after a cut: a fresh token from auth.", login: nodeA, reconnect: []string{nodeA}, acts: []act{{after: 5, cut: true}, {refuse: proto.CloseTokenExpired}}, asks: 1},
	{name: "too-slow", about: "4100: the same node again.", login: nodeA, acts: []act{{after: 5, close: proto.CloseTooSlow}}},
	{name: "three-failures", about: "4103 three times in place of a welcome: the client asks auth.", login: nodeA, reconnect: []string{nodeB}, acts: []act{{refuse: proto.CloseInternal}, {refuse: proto.CloseInternal}, {refuse: proto.CloseInternal}}, asks: 1},
	{name: "reset", about: "The stream does not continue after a cut (node_lost): the client begins to count anew, and sends nothing again.", login: nodeA, acts: []act{{after: 5, cut: true}, {reset: proto.ResetNodeLost}}},
	{name: "unknown-control", about: "A control of a type nobody has heard of is ignored.", login: nodeA, acts: []act{{after: 5, say: `{"type":"fanfare","loud":true}`}}},
	{name: "kicked", about: "4002: the client stops.", login: nodeA, acts: []act{{after: 5, close: proto.CloseKicked}}, stops: proto.CloseKicked},
	{name: "application", about: "4500: the application has ended the session.", login: nodeA, acts: []act{{after: 5, close: 4500}}, stops: 4500},
	{name: "garbage", about: "Something that is no control: the client closes with 4000 and stops.", login: nodeA, acts: []act{{after: 5, say: `{"type":"ack","received":-1}`}}, stops: proto.CloseProtocolError},
	{name: "garbage-first", about: "Something in place of the welcome.", login: nodeA, acts: []act{{garbage: `{"type":"ack","received":0}`}}, stops: proto.CloseProtocolError},
	{name: "future", about: "An acknowledgement of what was never sent: 4000.", login: nodeA, acts: []act{{after: 5, say: `{"type":"ack","received":9007199254740991}`}}, stops: proto.CloseProtocolError},
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

// Scenario is what there is to know of a scenario.
type Scenario struct{ Name, About string }

// List returns the scenarios.
func List() []Scenario {
	list := make([]Scenario, len(scenarios))
	for i, s := range scenarios {
		list[i] = Scenario{s.name, s.about}
	}
	return list
}
