package token

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/strictjson"
)

// SignTicket signs a queue ticket with the key that signs tokens. The ticket has
// another type than a token.
func (k *KeySet) SignTicket(t proto.Ticket) (string, error) {
	payload, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrClaims, err)
	}
	key := k.state.Load().signing(time.Now(), k.overlap)
	text := key.ticketHeader + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := jwt.SigningMethodEdDSA.Sign(text, key.private)
	if err != nil {
		return "", fmt.Errorf("signing a queue ticket: %w", err)
	}
	raw := text + "." + base64.RawURLEncoding.EncodeToString(signature)
	if len(raw) > proto.MaxTokenBytes {
		return "", fmt.Errorf("%w: a queue ticket of %d bytes, more than %d", ErrClaims, len(raw), proto.MaxTokenBytes)
	}
	return raw, nil
}

// VerifyTicket verifies a queue ticket and returns it. The errors are those of Verify;
// with an error it returns no ticket.
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

// readTicket reads the payload of a ticket whose signature is valid.
func (v *Verifier) readTicket(segment string) (proto.Ticket, error) {
	payload, err := decodeSegment(segment)
	if err != nil {
		return proto.Ticket{}, fmt.Errorf("%w: ticket: %w", ErrMalformed, err)
	}
	if _, err := jsonRules.Parse(payload); err != nil { // no name twice
		return proto.Ticket{}, fmt.Errorf("%w: ticket: %w", ErrMalformed, err)
	}
	var t proto.Ticket
	if err := strictjson.Unmarshal(payload, &t); err != nil {
		return proto.Ticket{}, fmt.Errorf("%w: ticket: %w", ErrMalformed, err)
	}
	leeway, now := v.leeway(), v.now()
	switch {
	case t.Audience != proto.TicketAudience || t.User == "" || t.Entry == "":
		return proto.Ticket{}, fmt.Errorf("%w: aud is %q, want %s, and the user and the entry must not be empty", ErrClaims, t.Audience, proto.TicketAudience)
	case time.Unix(t.IssuedAt, 0).After(now.Add(leeway)):
		return proto.Ticket{}, ErrNotYet
	case !now.Add(-leeway).Before(time.Unix(t.Expires, 0)):
		return proto.Ticket{}, ErrExpired
	}
	return t, nil
}
