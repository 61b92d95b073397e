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

// Reasons of a welcome that does not resume the stream that the client named.
const (
	ResetExpired  = "expired"   // the stream was kept as long as promised
	ResetOverflow = "overflow"  // more was sent to the detached session than is kept
	ResetNodeLost = "node_lost" // the node that kept the stream is gone
	ResetUnknown  = "unknown"   // the session never had the stream, or another replaced it
)

// Reasons of a goaway.
const (
	GoAwayDrain     = "drain"
	GoAwayRebalance = "rebalance"
	GoAwayShutdown  = "shutdown"
)

// MaxCount is the largest message count of the protocol: the largest integer
// that every JSON implementation can represent exactly.
const MaxCount = 1<<53 - 1

// MaxSetting is the largest limit or duration in a welcome or a goaway: an int
// of 32 bits and the timers of JavaScript can hold it.
const MaxSetting = 1<<31 - 1

// MaxControlBytes is the largest size of a control in bytes. A larger control
// is a protocol error.
const MaxControlBytes = 4 << 10

// ErrControl is the error that every error of ParseControl wraps.
var ErrControl = errors.New("malformed control")

// Control is one control object. Type says which of the other fields are used.
type Control struct {
	Type string

	Welcome  Welcome // welcome
	Received uint64  // ack: the number of reliable messages that were handled
	ID       uint64  // ping, pong
	GoAway   GoAway  // goaway
}

// Welcome is the first message of a connection. The node sends it.
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

// AppendControl appends the encoding of the control in a text WebSocket message.
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

// appendWelcome does the same as appendObject for a welcome, in a fifth of the
// time: each connection begins with a welcome.
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

// appendText appends s as a JSON string.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// appendObject appends v as a JSON object, with a field "type" before the fields
// of v. v must marshal to an object.
func appendObject(b []byte, typ string, v any) []byte {
	fields, err := json.Marshal(v)
	if err != nil { // the types above always marshal, except a time after the year 9999
		panic("proto: " + err.Error())
	}
	name, _ := json.Marshal(typ) // a string always marshals
	b = append(append(b, `{"type":`...), name...)
	if len(fields) > len("{}") {
		b = append(b, ',')
	}
	return append(b, fields[1:]...)
}
