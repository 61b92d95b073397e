package token

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/usher-broker/usher/proto"
)

// SignTicket returns the ticket as text. It is signed with the keys that sign
// tokens, and of another type.
func (k *KeySet) SignTicket(t proto.Ticket) (string, error) {
	payload, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrClaims, err)
	}
	key := k.state.Load().signing(time.Now(), k.overlap)
	text := key.ticketHeader + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := jwt.SigningMethodEdDSA.Sign(text, key.private)
	if err != nil {
		return "", fmt.Errorf("signing a ticket: %w", err)
	}
	raw := text + "." + base64.RawURLEncoding.EncodeToString(signature)
	if len(raw) > proto.MaxTokenBytes {
		return "", fmt.Errorf("%w: a ticket of %d bytes, more than %d", ErrClaims, len(raw), proto.MaxTokenBytes)
	}
	return raw, nil
}

// VerifyTicket returns a good ticket. The errors are those of Verify, and come
// with none.
func (v *Verifier) VerifyTicket(ctx context.Context, raw string) (proto.Ticket, error) {
	key, err := v.keyOf(ctx, raw, proto.TicketType)
	if err != nil {
		return proto.Ticket{}, err
	}
	if err := checkSignature(raw, key); err != nil {
		return proto.Ticket{}, err
	}
	return v.readTicket(payloadOf(raw))
}

// readTicket reads what was signed by one of ours.
func (v *Verifier) readTicket(segment string) (proto.Ticket, error) {
	payload, err := decodeSegment(segment)
	if err != nil {
		return proto.Ticket{}, fmt.Errorf("%w: ticket: %w", ErrMalformed, err)
	}
	if _, err := readObject(payload); err != nil {
		return proto.Ticket{}, fmt.Errorf("%w: ticket: %w", ErrMalformed, err)
	}
	var t proto.Ticket
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return proto.Ticket{}, fmt.Errorf("%w: ticket: %w", ErrMalformed, err)
	}
	leeway, now := v.leeway(), v.now()
	switch {
	case t.Audience != proto.TicketAudience || t.User == "" || t.Entry == "":
		return proto.Ticket{}, fmt.Errorf("%w: not those of a ticket", ErrClaims)
	case time.Unix(t.IssuedAt, 0).After(now.Add(leeway)):
		return proto.Ticket{}, ErrNotYet
	case !now.Add(-leeway).Before(time.Unix(t.Expires, 0)):
		return proto.Ticket{}, ErrExpired
	}
	return t, nil
}
