// Package credential identifies clients. A provider implements one login method; the
// operator chooses which methods there are.
package credential

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/strictjson"
)

// rules are those of credentials. A member whose value is null counts as absent.
var rules = &strictjson.Rules{MaxBytes: proto.MaxBodyBytes, MaxDepth: 16, NullIsAbsent: true}

// Provider verifies the credentials of one login method. Implementations are
// safe for concurrent use.
type Provider interface {
	// Verify returns the identity that the credentials belong to, or one of these
	// errors. ErrInvalidCredentials: they are wrong, or the account does not exist;
	// both take the same time. ErrMalformed, wrapped in a text for the client: they
	// do not have the form of the method. ErrBusy: too many logins at once.
	// ErrUnavailable: the service that the provider asks does not answer.
	Verify(ctx context.Context, credentials json.RawMessage) (Identity, error)
}

// Accounts is implemented by providers whose credentials name an account, so that failed
// logins to the account can be counted before the provider does expensive work.
type Accounts interface {
	// Account returns the account that the credentials name, whether it exists or
	// not; "" if they are malformed.
	Account(credentials json.RawMessage) string
}

// Identity identifies a client.
type Identity struct {
	User string          // a name that CheckName accepts
	Ext  json.RawMessage // JSON for the application, in the token; may be nil
}

// Errors of a Provider.
var (
	ErrInvalidCredentials = errors.New("invalid credentials")
	ErrMalformed          = errors.New("malformed credentials")
	ErrBusy               = errors.New("too many logins at once")
	ErrUnavailable        = errors.New("the service that the provider asks does not answer")
)

// CheckName returns an error if a user cannot have the name. A name must have 1 to
// proto.MaxNameBytes bytes of UTF-8, no space at either end, and only visible characters,
// so that two names never differ in invisible characters alone. The error continues a
// sentence that begins with the name.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case len(name) > proto.MaxNameBytes:
		return fmt.Errorf("is longer than %d bytes", proto.MaxNameBytes)
	case strings.ContainsFunc(name, invisible):
		return errors.New("contains a character that cannot be shown")
	case strings.TrimSpace(name) != name:
		return errors.New("begins or ends with a space")
	}
	return nil
}

// invisible also reports the replacement character, which a decoder puts in place of
// invalid text.
func invisible(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }

// Guest accepts every client, under the name that the client chooses or under a new
// random name. The credentials are {"name":"ada"}, {} or absent. Two guests with the same
// name are the same user.
type Guest struct {
	// Prefix is put before every name. It keeps a guest from having the name of a user
	// of another provider. No name in a users file contains a colon, so a prefix with
	// a colon is safe there.
	Prefix string
}

// Verify returns the guest.
func (g Guest) Verify(_ context.Context, credentials json.RawMessage) (Identity, error) {
	name, err := guestName(credentials)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if name == "" {
		name = "guest-" + strings.ToLower(rand.Text()[:12])
	}
	if err := CheckName(name); err != nil {
		return Identity{}, fmt.Errorf("%w: name %w", ErrMalformed, err)
	}
	user := g.Prefix + name
	if len(user) > proto.MaxNameBytes {
		return Identity{}, fmt.Errorf("%w: name is longer than %d bytes", ErrMalformed, proto.MaxNameBytes-len(g.Prefix))
	}
	return Identity{User: user}, nil
}

func guestName(credentials json.RawMessage) (string, error) {
	if len(credentials) == 0 || string(credentials) == "null" {
		return "", nil
	}
	o, err := rules.Parse(credentials)
	if err != nil {
		return "", err
	}
	name := o.OptionalString("name")
	return name, o.Err()
}
