package proto

import (
	"errors"
	"unicode/utf8"
)

// Bits of the kind byte of a message. All others are 0.
const (
	kindText     = 1 << 0
	kindVolatile = 1 << 1
)

// Errors of ParseMessage.
var (
	ErrEmptyMessage = errors.New("message without a kind byte")
	ErrUnknownKind  = errors.New("message with unknown kind bits")
	ErrInvalidUTF8  = errors.New("text that is not UTF-8")
)

// Message is one application message.
type Message struct {
	Data     []byte
	Text     bool // Data is UTF-8 text
	Volatile bool // sent at most once: not counted, kept or sent again
}

// AppendMessage appends the encoding of the message in a binary WebSocket
// message: the kind byte, then the payload.
func AppendMessage(b []byte, m Message) []byte {
	var kind byte
	if m.Text {
		kind |= kindText
	}
	if m.Volatile {
		kind |= kindVolatile
	}
	return append(append(b, kind), m.Data...)
}

// ParseMessage decodes the payload of a binary WebSocket message. Data of the
// result shares the memory of b. The error is ErrEmptyMessage, ErrUnknownKind or
// ErrInvalidUTF8.
func ParseMessage(b []byte) (Message, error) {
	if len(b) == 0 {
		return Message{}, ErrEmptyMessage
	}
	kind := b[0]
	if kind&^(kindText|kindVolatile) != 0 {
		return Message{}, ErrUnknownKind
	}
	m := Message{Data: b[1:], Text: kind&kindText != 0, Volatile: kind&kindVolatile != 0}
	if m.Text && !utf8.Valid(m.Data) {
		return Message{}, ErrInvalidUTF8
	}
	return m, nil
}
