package proto

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"
)

// Types of controls.
const (
	TypeWelcome = "welcome"
	TypeAck     = "ack"
	TypePing    = "ping"
	TypePong    = "pong"
	TypeGoAway  = "goaway"
)

// Reasons of a welcome that does not resume the stream the client named.
const (
	ResetExpired  = "expired"   // the stream was kept as long as promised
	ResetOverflow = "overflow"  // more was sent to the detached session than is kept
	ResetNodeLost = "node_lost" // the node that kept the stream is gone
	ResetUnknown  = "unknown"   // the session never had that stream, or it was replaced
)

// Reasons of a goaway.
const (
	GoAwayDrain     = "drain"
	GoAwayRebalance = "rebalance"
	GoAwayShutdown  = "shutdown"
)

// MaxCount is the largest message count that travels: the largest integer
// that every JSON implementation can represent exactly.
const MaxCount = 1<<53 - 1

// MaxSetting is the largest bound or duration that travels in a welcome or a
// goaway: what an int of 32 bits and the timers of JavaScript can hold.
const MaxSetting = 1<<31 - 1

// MaxControlBytes bounds a control. A larger one is a protocol error.
const MaxControlBytes = 4 << 10

// ErrControl is wrapped by every error of ParseControl.
var ErrControl = errors.New("malformed control")

// Control is one control object. Type says which of the fields mean something.
type Control struct {
	Type string

	Welcome  Welcome // welcome
	Received uint64  // ack: how many reliable messages have been handled
	ID       uint64  // ping, pong
	GoAway   GoAway  // goaway
}

// Welcome is the first message on a connection, from the node.
type Welcome struct {
	Session            string    `json:"session"`
	Stream             string    `json:"stream"`
	Node               string    `json:"node"`
	Resumed            bool      `json:"resumed"`
	Reason             string    `json:"reason,omitempty"`
	Received           uint64    `json:"received"`
	PingIntervalMS     int64     `json:"ping_interval_ms"`
	ResumeWindowMS     int64     `json:"resume_window_ms"`
	MaxMessageBytes    int       `json:"max_message_bytes"`
	MaxUnackedBytes    int       `json:"max_unacked_bytes"`
	MaxUnackedMessages int       `json:"max_unacked_messages"`
	TokenExpiresAt     time.Time `json:"token_expires_at"`
}

// GoAway asks the client to leave for another node.
type GoAway struct {
	Reason  string `json:"reason"`
	AfterMS int64  `json:"after_ms"`
	ByMS    int64  `json:"by_ms"`
}

// AppendControl appends the control as it travels in a text WebSocket message.
func AppendControl(b []byte, c Control) []byte {
	switch c.Type {
	case TypeAck:
		b = strconv.AppendUint(append(b, `{"type":"ack","received":`...), c.Received, 10)
		return append(b, '}')
	case TypePing, TypePong:
		b = append(append(append(b, `{"type":"`...), c.Type...), `","id":`...)
		return append(strconv.AppendUint(b, c.ID, 10), '}')
	case TypeWelcome:
		return appendWelcome(b, c.Welcome)
	case TypeGoAway:
		return appendObject(b, c.Type, c.GoAway)
	}
	return appendObject(b, c.Type, struct{}{})
}

// appendWelcome is appendObject for a welcome, in a fifth of the time: each
// connection begins with one.
func appendWelcome(b []byte, w Welcome) []byte {
	text := func(name, value string) {
		b = append(append(append(b, ',', '"'), name...), '"', ':')
		b = appendText(b, value)
	}
	number := func(name string, value int64) {
		b = append(append(append(b, ',', '"'), name...), '"', ':')
		b = strconv.AppendInt(b, value, 10)
	}
	b = append(b, `{"type":"welcome"`...)
	text("session", w.Session)
	text("stream", w.Stream)
	text("node", w.Node)
	b = strconv.AppendBool(append(b, `,"resumed":`...), w.Resumed)
	if w.Reason != "" {
		text("reason", w.Reason)
	}
	b = strconv.AppendUint(append(b, `,"received":`...), w.Received, 10)
	number("ping_interval_ms", w.PingIntervalMS)
	number("resume_window_ms", w.ResumeWindowMS)
	number("max_message_bytes", int64(w.MaxMessageBytes))
	number("max_unacked_bytes", int64(w.MaxUnackedBytes))
	number("max_unacked_messages", int64(w.MaxUnackedMessages))
	b = w.TokenExpiresAt.AppendFormat(append(b, `,"token_expires_at":"`...), time.RFC3339Nano)
	return append(b, '"', '}')
}

// appendText appends a string as JSON.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// appendObject appends v, which marshals to an object, with a type before its
// fields.
func appendObject(b []byte, typ string, v any) []byte {
	fields, err := json.Marshal(v)
	if err != nil { // the types above marshal, whatever they hold, but for a year past 9999
		panic("proto: " + err.Error())
	}
	name, _ := json.Marshal(typ) // a string always marshals
	b = append(append(b, `{"type":`...), name...)
	if len(fields) > len("{}") {
		b = append(b, ',')
	}
	return append(b, fields[1:]...)
}
