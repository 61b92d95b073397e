package usher

import (
	"context"

	"github.com/usher-broker/usher/proto"
)

// Credentials say who logs in: the method, and what goes with it as JSON. A
// function of one's own serves the methods "oidc" and "webhook".
type Credentials func(ctx context.Context) (method string, credentials any, err error)

// Guest logs in without an account, under the name. Auth must allow guests.
func Guest(name string) Credentials {
	return func(context.Context) (string, any, error) {
		return "guest", proto.GuestCredentials{Name: name}, nil
	}
}

// Password logs in with a name and a password.
func Password(username, password string) Credentials {
	return func(context.Context) (string, any, error) {
		return "password", proto.PasswordCredentials{Username: username, Password: password}, nil
	}
}
