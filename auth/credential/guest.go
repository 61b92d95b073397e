package credential

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/usher-broker/usher/auth/internal/strictjson"
	"github.com/usher-broker/usher/proto"
)

// Guest lets anybody in under the name they choose, or under a new one when
// they choose none: credentials {"name":"ada"}, {} or nothing. Two guests of
// one name are one user.
type Guest struct {
	// Prefix is put before every name. Where there are other providers it
	// keeps a guest from passing as one of their users; with a colon in it no
	// name of a users file can begin with it.
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
	fields, err := strictjson.Read(credentials)
	if err != nil {
		return "", err
	}
	return fields.Text("name")
}
