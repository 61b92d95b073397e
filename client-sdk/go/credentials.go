package usher

import (
	"context"

	"github.com/usher-broker/usher/proto"
)

// Credentials returns a login method and its credentials, which are marshalled to
// JSON. For the methods "oidc" and "webhook" the application provides the function.
type Credentials func(ctx context.Context) (method string, credentials any, err error)

// Guest returns the credentials of a guest with the name. Auth must allow guests.
func Guest(name string) Credentials {
	return func(context.Context) (string, any, error) {
		return "guest", proto.GuestCredentials{Name: name}, nil
	}
}

// Password returns the credentials of a user with a password.
func Password(username, password string) Credentials {
	return func(context.Context) (string, any, error) {
		return "password", proto.PasswordCredentials{Username: username, Password: password}, nil
	}
}
