package proto

import (
	"fmt"
	"time"

	"github.com/usher-broker/usher/proto/strictjson"
)

// controlRules are lenient about duplicate names: the protocol does not specify which
// of them counts, and clients of other implementations may depend on the last one.
var controlRules = strictjson.Rules{Duplicates: strictjson.LastDuplicate}

// errControlTooLong is made once: a peer that sends long controls costs no formatting.
var errControlTooLong = fmt.Errorf("%w: longer than %d bytes", ErrControl, MaxControlBytes)

// ParseControl reads the payload of a text WebSocket message. A type that this
// version does not know is returned with only Type set: clients ignore it,
// nodes refuse it. A known type must have its fields, of the right types and
// in range; unknown fields are ignored.
func ParseControl(b []byte) (Control, error) {
	if c, ok := parseShort(b); ok {
		return c, nil
	}
	return parseObject(b)
}

// parseObject is ParseControl for controls of any form.
func parseObject(b []byte) (Control, error) {
	if len(b) > MaxControlBytes {
		return Control{}, errControlTooLong
	}
	o, err := controlRules.Parse(b)
	if err != nil {
		return Control{}, fmt.Errorf("%w: %w", ErrControl, err)
	}
	c := Control{Type: required(o, "type")}
	switch c.Type {
	case TypeAck:
		c.Received = o.Uint("received", 0, MaxCount)
	case TypePing, TypePong:
		c.ID = o.Uint("id", 0, MaxCount)
	case TypeWelcome:
		c.Welcome = parseWelcome(o)
	case TypeGoAway:
		c.GoAway = parseGoAway(o)
	}
	if err := o.Err(); err != nil {
		return Control{}, fmt.Errorf("%w: %w", ErrControl, err)
	}
	return c, nil
}

// required returns the string of a field, which must not be empty.
func required(o strictjson.Object, name string) string {
	s := o.String(name)
	if s == "" {
		o.Fail(name, "expected a string that is not empty")
	}
	return s
}

func parseWelcome(o strictjson.Object) Welcome {
	w := Welcome{
		Session:            required(o, "session"),
		Stream:             required(o, "stream"),
		Node:               required(o, "node"),
		Resumed:            o.Bool("resumed"),
		Reason:             o.OptionalString("reason"),
		Received:           o.Uint("received", 0, MaxCount),
		PingIntervalMS:     int64(o.Uint("ping_interval_ms", 1, MaxSetting)),
		ResumeWindowMS:     int64(o.Uint("resume_window_ms", 0, MaxSetting)),
		MaxMessageBytes:    int(o.Uint("max_message_bytes", 1, MaxSetting)),
		MaxUnackedBytes:    int(o.Uint("max_unacked_bytes", 1, MaxSetting)),
		MaxUnackedMessages: int(o.Uint("max_unacked_messages", 1, MaxSetting)),
	}
	var err error
	if w.TokenExpiresAt, err = time.Parse(time.RFC3339, o.String("token_expires_at")); err != nil {
		o.Fail("token_expires_at", "expected a time in the form of RFC 3339")
	}
	if w.MaxUnackedBytes < w.MaxMessageBytes {
		o.Fail("max_unacked_bytes", "less than max_message_bytes: the largest message could never be sent")
	}
	if !w.Resumed && w.Received != 0 {
		o.Fail("received", "expected 0 for a new stream")
	}
	return w
}

func parseGoAway(o strictjson.Object) GoAway {
	g := GoAway{
		Reason:  required(o, "reason"),
		AfterMS: int64(o.Uint("after_ms", 0, MaxSetting)),
		ByMS:    int64(o.Uint("by_ms", 0, MaxSetting)),
	}
	if g.ByMS < g.AfterMS {
		o.Fail("by_ms", "earlier than after_ms")
	}
	return g
}
