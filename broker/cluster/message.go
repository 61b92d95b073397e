package cluster

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/usher-broker/usher/proto"
)

// A message starts with a kind byte. Then follows, for a report: the report as
// package proto encodes it; for a call: its id, the length and text of the
// caller's id, and the command as JSON; for an answer: the id of the call, and
// the result as JSON.
const (
	kindReport byte = iota + 1
	kindCall
	kindAnswer
)

// Limits of messages, checked before they are decoded. A call may contain a
// message for a client.
const (
	maxMessageBytes = 1 + proto.MaxPeerBytes
	maxCallBytes    = 32 << 10
)

// callID identifies a call: a random number of the caller's process, and the
// number of the call in it.
type callID [16]byte

func newNonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}

func (c *Cluster) nextID() (id callID) {
	binary.BigEndian.PutUint64(id[:], c.nonce)
	binary.BigEndian.PutUint64(id[8:], c.calls.Add(1))
	return id
}

var errMessage = errors.New("malformed message")

// message is a decoded message; kind says which fields are set.
type message struct {
	kind   byte
	report proto.Report
	id     callID
	from   string
	cmd    proto.Command
	result proto.CommandResult
}

func parseMessage(b []byte) (m message, err error) {
	if len(b) == 0 || len(b) > maxCallBytes || b[0] != kindCall && len(b) > maxMessageBytes {
		return m, fmt.Errorf("%w: %d bytes", errMessage, len(b))
	}
	m.kind, b = b[0], b[1:]
	if m.kind == kindReport {
		m.report, err = proto.ParseReport(b)
		return m, err
	}
	if m.kind != kindCall && m.kind != kindAnswer {
		return m, fmt.Errorf("%w: kind %d", errMessage, m.kind)
	}
	if len(b) < len(m.id) {
		return m, fmt.Errorf("%w: cut short", errMessage)
	}
	b = b[copy(m.id[:], b):]
	if m.kind == kindAnswer {
		return m, decode(b, &m.result)
	}
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return m, fmt.Errorf("%w: cut short", errMessage)
	}
	n := 1 + int(b[0])
	m.from = string(b[1:n])
	return m, decode(b[n:], &m.cmd)
}

func decode(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", errMessage, err)
	}
	return nil
}

func appendCall(id callID, from string, cmd proto.Command) ([]byte, error) {
	body, err := json.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("cluster: command: %w", err)
	}
	b := append([]byte{kindCall}, id[:]...)
	b = append(append(b, byte(len(from))), from...) // fits in a byte: proto limits ids to 255 bytes
	if b = append(b, body...); len(b) > maxCallBytes {
		return nil, fmt.Errorf("cluster: the command has %d bytes, at most %d are allowed", len(b), maxCallBytes)
	}
	return b, nil
}

// appendAnswer encodes an answer. It truncates an error that is too long.
func appendAnswer(id callID, r proto.CommandResult) []byte {
	for limit := 400; ; limit /= 2 {
		if len(r.Error) > limit {
			r.Error = truncate(r.Error, limit)
		}
		body, err := json.Marshal(r)
		if b := append(append([]byte{kindAnswer}, id[:]...), body...); err == nil && len(b) <= maxMessageBytes {
			return b
		}
	}
}

func truncate(s string, n int) string {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// receive handles a message from another member. It must not block.
func (c *Cluster) receive(b []byte) {
	m, err := parseMessage(b)
	if err != nil {
		c.counts.badMessages.Add(1)
		c.log.Debug("malformed message dropped", "error", err)
		return
	}
	switch m.kind {
	case kindReport:
		c.deliverReport(m.report)
	case kindCall:
		c.serve(m)
	case kindAnswer:
		c.deliverAnswer(m)
	}
}
