package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/usher-broker/usher/proto"
)

// Limits of claims, in bytes and seconds.
const (
	maxIssuerBytes = 64
	maxIDBytes     = 128          // sid, jti
	maxKidBytes    = 128          // the header's kid
	maxTime        = 253402300799 // the last second of the year 9999
)

// strictClaims are claims that read themselves strictly.
type strictClaims proto.Claims

var claimNames = []string{"iss", "aud", "sub", "sid", "nid", "ep", "iat", "nbf", "exp", "jti", "ext", "cnf"}

// read reads the claims. Names that are not claims of ours are passed
// over, for those of a later version, unless only their case tells them from
// ours: some reader would take one for the other.
func (c *strictClaims) read(b []byte) error {
	fields, err := readObject(b)
	if err != nil {
		return fmt.Errorf("%w: claims: %w", ErrMalformed, err)
	}
	for name := range fields {
		for _, ours := range claimNames {
			if name != ours && strings.EqualFold(name, ours) {
				return fmt.Errorf("%w: %q looks like %q", ErrClaims, name, ours)
			}
		}
	}
	var r strictClaims
	if err := errors.Join(
		fields.string("iss", &r.Issuer),
		fields.string("aud", &r.Audience),
		fields.string("sub", &r.User),
		fields.string("sid", &r.Session),
		fields.string("nid", &r.Node),
		fields.string("jti", &r.ID),
		fields.number("ep", proto.MaxCount, &r.Epoch),
		r.time(fields, "iat", &r.IssuedAt),
		r.time(fields, "nbf", &r.NotBefore),
		r.time(fields, "exp", &r.Expires),
		r.ext(fields),
		r.confirm(fields),
	); err != nil {
		return fmt.Errorf("%w: %w", ErrClaims, err)
	}
	if err := r.check(); err != nil {
		return err
	}
	*c = r
	return nil
}

func checkText(name, s string, limit int) error {
	if s == "" || len(s) > limit {
		return fmt.Errorf("%s has %d bytes, not 1 to %d", name, len(s), limit)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%s contains a control character", name)
	}
	return nil
}

// check refuses what read would, of claims without ext.
func (c *strictClaims) check() error {
	err := errors.Join(
		checkText("iss", c.Issuer, maxIssuerBytes),
		checkText("sub", c.User, proto.MaxNameBytes),
		checkText("sid", c.Session, maxIDBytes),
		checkText("nid", c.Node, proto.MaxNameBytes),
		checkText("jti", c.ID, maxIDBytes),
		checkNumber("ep", c.Epoch, proto.MaxCount),
		checkNumber("iat", uint64(c.IssuedAt), maxTime),
		checkNumber("nbf", uint64(c.NotBefore), maxTime),
		checkNumber("exp", uint64(c.Expires), maxTime),
	)
	switch {
	case err != nil:
	case c.Audience != proto.TokenAudience:
		err = fmt.Errorf("aud is %q, not %s", c.Audience, proto.TokenAudience)
	case c.Confirm != proto.Confirmation{} && !c.Confirm.Valid():
		err = errors.New("cnf is not the thumbprint of a key")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrClaims, err)
	}
	return nil
}

func (c *strictClaims) time(fields object, name string, dst *int64) error {
	var n uint64
	err := fields.number(name, maxTime, &n)
	*dst = int64(n)
	return err
}

func (c *strictClaims) ext(fields object) error {
	if len(fields["ext"]) > proto.MaxExtBytes {
		return fmt.Errorf("ext has %d bytes, more than %d", len(fields["ext"]), proto.MaxExtBytes)
	}
	c.Ext = bytes.Clone(fields["ext"]) // the rest of the token is not kept for it
	return nil
}

// confirm reads the one way of confirmation there is. A token with another must
// not pass for one that anybody may show.
func (c *strictClaims) confirm(fields object) error {
	raw, ok := fields["cnf"]
	if !ok {
		return nil
	}
	cnf, err := readObject(raw)
	if err == nil {
		err = cnf.string("jkt", &c.Confirm.Thumbprint)
	}
	if err != nil || len(cnf) != 1 || !c.Confirm.Valid() {
		return errors.New("cnf is not the thumbprint of a key")
	}
	return nil
}

// checkTimes judges authentic claims by the clock; of several faults it names
// expiry last.
func (v *Verifier) checkTimes(c proto.Claims) error {
	leeway, t, longest := v.leeway(), v.now(), v.MaxLifetime
	if longest == 0 {
		longest = DefaultMaxLifetime
	}
	switch {
	case c.Expires <= c.IssuedAt || c.Expires <= c.NotBefore:
		return fmt.Errorf("%w: exp is not after iat and nbf", ErrClaims)
	case c.Expires-c.IssuedAt > int64(longest/time.Second):
		return fmt.Errorf("%w: lifetime of %d s, more than %s", ErrClaims, c.Expires-c.IssuedAt, longest)
	case time.Unix(c.IssuedAt, 0).After(t.Add(leeway)):
		return fmt.Errorf("%w: issued in the future", ErrNotYet)
	case time.Unix(c.NotBefore, 0).After(t.Add(leeway)):
		return ErrNotYet
	case !t.Before(time.Unix(c.Expires, 0).Add(leeway)):
		return ErrExpired
	}
	return nil
}

func (v *Verifier) now() time.Time {
	if v.Now != nil {
		return v.Now()
	}
	return time.Now()
}

func (v *Verifier) leeway() time.Duration {
	if v.Leeway == 0 {
		return DefaultLeeway
	}
	return max(v.Leeway, 0)
}

// encodeClaims returns the claims as they travel. Claims that no verifier
// would take are an error, so that a mistake shows where it was made.
func encodeClaims(c proto.Claims) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it would make ext up to six times as long
	if err := e.Encode(c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	payload := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if c.Ext == nil {
		return payload, (*strictClaims)(&c).check()
	}
	return payload, new(strictClaims).read(payload)
}
