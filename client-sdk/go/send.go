package usher

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// Message is one message of the application. Data of a received message belongs to
// the caller of Receive.
type Message = proto.Message

// Send sends a reliable message. It returns when the session has accepted the
// message, also while detached. If as many messages are unconfirmed as the node
// allows, it waits until there is capacity or ctx ends. Messages are sent in the
// order of the calls that did not have to wait.
//
// The error is ErrTooLarge, the error of ctx, or an *EndedError if the session has
// ended or is being closed; then the message was not sent. Send copies data.
func (s *Session) Send(ctx context.Context, data []byte) error {
	return s.send(ctx, Message{Data: data})
}

// SendText does the same as Send for a text, which must be UTF-8.
func (s *Session) SendText(ctx context.Context, text string) error {
	return s.send(ctx, Message{Data: []byte(text), Text: true})
}

// TrySend does the same as Send, but returns ErrFull instead of waiting.
func (s *Session) TrySend(data []byte) error { return s.trySend(Message{Data: data}) }

// TrySendText does the same as TrySend for a text.
func (s *Session) TrySendText(text string) error {
	return s.trySend(Message{Data: []byte(text), Text: true})
}

// SendVolatile sends a volatile message: it is dropped while the session is
// detached. When too many volatile messages wait to be written, the oldest are
// dropped. SendVolatile does not wait. The error is ErrTooLarge or an *EndedError.
func (s *Session) SendVolatile(data []byte) error {
	return s.sendVolatile(Message{Data: data, Volatile: true})
}

// SendVolatileText does the same as SendVolatile for a text.
func (s *Session) SendVolatileText(text string) error {
	return s.sendVolatile(Message{Data: []byte(text), Text: true, Volatile: true})
}

func (s *Session) send(ctx context.Context, m Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var frame []byte
	for waits := 0; ; waits++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("usher: send: %w", err)
		}
		if err := s.checkSendable(m); err != nil {
			return err
		}
		if frame == nil {
			frame = encode(m)
		}
		if s.queue(frame) {
			return nil
		}
		if waits == 0 {
			defer s.wakeAtEnd(ctx, &s.sendReady)()
		}
		s.sendReady.Wait()
	}
}

func (s *Session) trySend(m Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkSendable(m); err != nil {
		return err
	}
	if !s.queue(encode(m)) {
		return ErrFull
	}
	return nil
}

// checkSendable returns an error if the message can never be sent. s.mu is held.
func (s *Session) checkSendable(m Message) error {
	switch {
	case s.end != nil:
		return s.end
	case s.departure != staying:
		return &EndedError{Err: ErrClosed}
	case len(m.Data) > s.bounds.MaxMessageBytes:
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(m.Data), s.bounds.MaxMessageBytes)
	case m.Text && !utf8.Valid(m.Data):
		return fmt.Errorf("usher: send: %w", proto.ErrInvalidUTF8)
	}
	return nil
}

// queue adds a frame to the stream. It returns false if the stream is full. s.mu is
// held.
func (s *Session) queue(frame []byte) bool {
	if _, err := s.stream.Send(frame); errors.Is(err, stream.ErrFull) {
		return false
	}
	s.stats.Sent++
	if s.conn != nil {
		s.conn.wakeWriter()
	}
	return true
}

func encode(m Message) []byte {
	return proto.AppendMessage(make([]byte, 0, 1+len(m.Data)), m)
}

func (s *Session) sendVolatile(m Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkSendable(m); err != nil {
		return err
	}
	if s.conn == nil {
		s.stats.VolatileDropped++
		return nil
	}
	s.stats.VolatileDropped += uint64(s.conn.out.PushVolatile(encode(m)))
	s.conn.wakeWriter()
	return nil
}

// unconfirmed returns the messages that the node has not confirmed.
func unconfirmed(st *stream.Stream) []Message {
	if st == nil {
		return nil
	}
	var list []Message
	for _, frame := range st.Unacked() {
		m, err := proto.ParseMessage(frame)
		if err != nil { // impossible: encode made the frames
			continue
		}
		m.Data = append([]byte(nil), m.Data...)
		list = append(list, m)
	}
	return list
}
