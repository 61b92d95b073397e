package proto

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

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
		return Control{}, fmt.Errorf("%w: %d bytes", ErrControl, len(b))
	}
	if !utf8.Valid(b) {
		return Control{}, fmt.Errorf("%w: %w", ErrControl, ErrInvalidUTF8)
	}
	fields, err := decodeObject(b)
	if err != nil {
		return Control{}, err
	}
	r := fieldReader{fields: fields}
	c := Control{Type: r.text("type")}
	if r.err == nil {
		switch c.Type {
		case "":
			r.fail("type", "empty")
		case TypeAck:
			c.Received = r.count("received", 0, MaxCount)
		case TypePing, TypePong:
			c.ID = r.count("id", 0, MaxCount)
		case TypeWelcome:
			c.Welcome = r.welcome()
		case TypeGoAway:
			c.GoAway = r.goAway()
		}
	}
	if r.err != nil {
		return Control{}, r.err
	}
	return c, nil
}

// decodeObject reads exactly one JSON object. It makes a map and not a struct:
// for a struct encoding/json would take "Type" for "type", which no other
// implementation does.
func decodeObject(b []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&fields); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrControl, err)
	}
	if fields == nil { // JSON's null
		return nil, fmt.Errorf("%w: not an object", ErrControl)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: more than one value", ErrControl)
	}
	return fields, nil
}

// fieldReader reads fields of an object and keeps the first error.
type fieldReader struct {
	fields map[string]json.RawMessage
	err    error
}

func (r *fieldReader) fail(name, why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s: %s", ErrControl, name, why)
	}
}

func (r *fieldReader) text(name string) string {
	var s *string
	if err := json.Unmarshal(r.fields[name], &s); err != nil || s == nil {
		r.fail(name, "not a string")
		return ""
	}
	return *s
}

func (r *fieldReader) required(name string) string {
	s := r.text(name)
	if s == "" {
		r.fail(name, "empty")
	}
	return s
}

func (r *fieldReader) flag(name string) bool {
	switch string(r.fields[name]) {
	case "true":
		return true
	case "false":
	default:
		r.fail(name, "not true or false")
	}
	return false
}

// count reads a number written in digits alone. Where JSON is read into
// floating point 1.0 and 1e0 cannot be told from 1; here they are refused, so
// that whoever writes them hears of it.
func (r *fieldReader) count(name string, low, high uint64) uint64 {
	n, err := strconv.ParseUint(string(r.fields[name]), 10, 64)
	if err != nil || n < low || n > high {
		r.fail(name, fmt.Sprintf("not an integer from %d to %d", low, high))
		return 0
	}
	return n
}

func (r *fieldReader) time(name string) time.Time {
	t, err := time.Parse(time.RFC3339, r.text(name))
	if err != nil {
		r.fail(name, "not a time as RFC 3339 has it")
	}
	return t
}

func (r *fieldReader) welcome() Welcome {
	w := Welcome{
		Session:            r.required("session"),
		Stream:             r.required("stream"),
		Node:               r.required("node"),
		Resumed:            r.flag("resumed"),
		Received:           r.count("received", 0, MaxCount),
		PingIntervalMS:     int64(r.count("ping_interval_ms", 1, MaxSetting)),
		ResumeWindowMS:     int64(r.count("resume_window_ms", 0, MaxSetting)),
		MaxMessageBytes:    int(r.count("max_message_bytes", 1, MaxSetting)),
		MaxUnackedBytes:    int(r.count("max_unacked_bytes", 1, MaxSetting)),
		MaxUnackedMessages: int(r.count("max_unacked_messages", 1, MaxSetting)),
		TokenExpiresAt:     r.time("token_expires_at"),
	}
	if _, ok := r.fields["reason"]; ok {
		w.Reason = r.text("reason")
	}
	if w.MaxUnackedBytes < w.MaxMessageBytes {
		r.fail("max_unacked_bytes", "less than max_message_bytes: the largest message could never be sent")
	}
	if !w.Resumed && w.Received != 0 {
		r.fail("received", "not 0 for a new stream")
	}
	return w
}

func (r *fieldReader) goAway() GoAway {
	g := GoAway{
		Reason:  r.required("reason"),
		AfterMS: int64(r.count("after_ms", 0, MaxSetting)),
		ByMS:    int64(r.count("by_ms", 0, MaxSetting)),
	}
	if g.ByMS < g.AfterMS {
		r.fail("by_ms", "before after_ms")
	}
	return g
}
