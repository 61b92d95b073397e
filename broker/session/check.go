package session

import (
	"errors"
	"fmt"
)

// ErrInvalid is wrapped by the errors of calls that no store accepts, whatever
// records it holds.
var ErrInvalid = errors.New("session: invalid")

// CheckNew returns an error that wraps ErrInvalid if the record cannot be created.
func CheckNew(r Record) error {
	switch {
	case r.User == "" || r.Node == "":
		return fmt.Errorf("%w: user %q and node %q of a record must not be empty", ErrInvalid, r.User, r.Node)
	case !ofUser(r.ID, r.User):
		return fmt.Errorf("%w: id %q was not made for user %q; make ids with NewID", ErrInvalid, r.ID, r.User)
	}
	return nil
}

// Renewable reports whether a store that has lost the record can restore it from r.
func Renewable(r Record) bool {
	switch r.State {
	case Assigned, Attached, Detached:
		return ofUser(r.ID, r.User) && r.Node != "" && r.Epoch > 0
	}
	return false
}

// ofUser reports whether the id was made for the user. A store can keep the
// sessions of one user together only if their ids have the same tag.
func ofUser(id, user string) bool {
	tag, ok := TagOf(id)
	return ok && user != "" && tag == Tag(user)
}
