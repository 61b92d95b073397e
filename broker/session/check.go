package session

import (
	"errors"
	"fmt"
)

// ErrInvalid is wrapped by the errors of what cannot be, whatever the store
// holds: no store takes it.
var ErrInvalid = errors.New("session: invalid")

// CheckNew says why a record cannot be created.
func CheckNew(r Record) error {
	switch {
	case r.User == "" || r.Node == "":
		return fmt.Errorf("%w: %s", ErrInvalid, "a record without user or node")
	case !ofUser(r.ID, r.User):
		return fmt.Errorf("%w: %s", ErrInvalid, "the id was not made for the user")
	}
	return nil
}

// Renewable reports whether the record has what a store that lost it needs.
func Renewable(r Record) bool {
	switch r.State {
	case Assigned, Attached, Detached:
		return ofUser(r.ID, r.User) && r.Node != "" && r.Epoch > 0
	}
	return false
}

// ofUser reports whether the id was made for the user: sessions of one user
// can be kept together only if their ids have the same tag.
func ofUser(id, user string) bool {
	tag, ok := TagOf(id)
	return ok && user != "" && tag == Tag(user)
}
