// Package credential finds out who a client is. A provider is one way of doing
// so; which ones there are is the operator's choice.
package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/usher-broker/usher/proto"
)

// Provider verifies the credentials of one login method. Implementations are
// safe for concurrent use.
type Provider interface {
	// Verify returns who the credentials belong to. It returns
	// ErrInvalidCredentials when they belong to nobody, in the same time as
	// when they are wrong; ErrMalformed, wrapped in a sentence for the client,
	// when they do not have the form of the method; ErrBusy when it has too much
	// to do; and ErrUnavailable when whom it asks does not answer.
	Verify(ctx context.Context, credentials json.RawMessage) (Identity, error)
}

// Accounts is implemented by providers whose credentials name an account, so
// that failed attempts at one account can be counted before anything costly is
// done.
type Accounts interface {
	// Account returns the account the credentials claim to be for, whether it
	// exists or not; "" when they are malformed.
	Account(credentials json.RawMessage) string
}

// Identity is who a client is.
type Identity struct {
	User string          // 1 to proto.MaxNameBytes bytes, see CheckName
	Ext  json.RawMessage // for the application, in the token; may be nil
}

// Errors of a Provider.
var (
	ErrInvalidCredentials = errors.New("invalid credentials")
	ErrMalformed          = errors.New("malformed credentials")
	ErrBusy               = errors.New("too many logins at once")
	ErrUnavailable        = errors.New("whom the provider asks does not answer")
)

// CheckName reports why a name cannot be that of a user: it must have 1 to
// proto.MaxNameBytes bytes of UTF-8, all of it visible, so that no two names
// look the same for what cannot be seen in them, and no space at its ends.
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

// invisible also takes the replacement character, which is what a decoder
// makes of text that is no text.
func invisible(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }
