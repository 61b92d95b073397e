package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"

	"github.com/usher-broker/usher/proto"
)

// Limits of claims, in bytes and seconds.
const (
	maxIssuerBytes = 64
	maxIDBytes     = 128          // sid, jti
	maxKidBytes    = 128          // the header's kid
	maxTime        = 253402300799 // the last second of the year 9999
)

// strictClaims are claims that read themselves strictly when the JWT library
// decodes a token into them.
type strictClaims proto.Claims

var claimNames = []string{"iss", "aud", "sub", "sid", "nid", "ep", "iat", "nbf", "exp", "jti", "ext", "cnf"}

// UnmarshalJSON reads the claims. Names that are not claims of ours are passed
// over, for those of a later version, unless only their case tells them from
// ours: some reader would take one for the other.
func (c *strictClaims) UnmarshalJSON(b []byte) error {
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
		r.text(fields, "iss", &r.Issuer, maxIssuerBytes),
		r.text(fields, "aud", &r.Audience, len(proto.TokenAudience)),
		r.text(fields, "sub", &r.User, proto.MaxNameBytes),
		r.text(fields, "sid", &r.Session, maxIDBytes),
		r.text(fields, "nid", &r.Node, proto.MaxNameBytes),
		r.text(fields, "jti", &r.ID, maxIDBytes),
		fields.number("ep", proto.MaxCount, &r.Epoch),
		r.time(fields, "iat", &r.IssuedAt),
		r.time(fields, "nbf", &r.NotBefore),
		r.time(fields, "exp", &r.Expires),
		r.ext(fields),
		r.confirm(fields),
	); err != nil {
		return fmt.Errorf("%w: %w", ErrClaims, err)
	}
	if r.Audience != proto.TokenAudience {
		return fmt.Errorf("%w: aud is %q, not %s", ErrClaims, r.Audience, proto.TokenAudience)
	}
	*c = r
	return nil
}

func (c *strictClaims) text(fields object, name string, dst *string, limit int) error {
	if err := fields.string(name, dst); err != nil {
		return err
	}
	if *dst == "" || len(*dst) > limit {
		return fmt.Errorf("%s has %d bytes, not 1 to %d", name, len(*dst), limit)
	}
	if strings.ContainsFunc(*dst, unicode.IsControl) {
		return fmt.Errorf("%s contains a control character", name)
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
	if c.Ext = fields["ext"]; len(c.Ext) > proto.MaxExtBytes {
		return fmt.Errorf("ext has %d bytes, more than %d", len(c.Ext), proto.MaxExtBytes)
	}
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
	return payload, new(strictClaims).UnmarshalJSON(payload)
}

// The methods below make strictClaims a jwt.Claims.

// GetExpirationTime returns exp.
func (c *strictClaims) GetExpirationTime() (*jwt.NumericDate, error) { return date(c.Expires), nil }

// GetIssuedAt returns iat.
func (c *strictClaims) GetIssuedAt() (*jwt.NumericDate, error) { return date(c.IssuedAt), nil }

// GetNotBefore returns nbf.
func (c *strictClaims) GetNotBefore() (*jwt.NumericDate, error) { return date(c.NotBefore), nil }

// GetIssuer returns iss.
func (c *strictClaims) GetIssuer() (string, error) { return c.Issuer, nil }

// GetSubject returns sub.
func (c *strictClaims) GetSubject() (string, error) { return c.User, nil }

// GetAudience returns aud.
func (c *strictClaims) GetAudience() (jwt.ClaimStrings, error) {
	return jwt.ClaimStrings{c.Audience}, nil
}

func date(s int64) *jwt.NumericDate { return jwt.NewNumericDate(time.Unix(s, 0)) }
