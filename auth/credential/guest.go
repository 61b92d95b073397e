package credential

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/usher-broker/usher/proto"
)

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
