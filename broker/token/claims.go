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
	"github.com/usher-broker/usher/proto/strictjson"
)

// Limits of claims, in bytes and seconds.
const (
	maxIssuerBytes = 64
	maxIDBytes     = 128          // sid, jti
	maxKidBytes    = 128          // the header's kid
	maxTime        = 253402300799 // the last second of the year 9999
)

// strictClaims adds strict decoding to proto.Claims.
type strictClaims proto.Claims

var claimNames = []string{"iss", "aud", "sub", "sid", "nid", "ep", "iat", "nbf", "exp", "jti", "ext", "cnf"}

// read reads the claims. It ignores names that it does not know, because a later
// version may add claims. A name that differs from a known one only in case is an
// error, because some decoders would take one for the other.
func (c *strictClaims) read(b []byte) error {
	o, err := jsonRules.Parse(b)
	if err != nil {
		return fmt.Errorf("%w: claims: %w", ErrMalformed, err)
	}
	for name := range o.Names() {
		for _, known := range claimNames {
			if name != known && strings.EqualFold(name, known) {
				return fmt.Errorf("%w: %q looks like %q", ErrClaims, name, known)
			}
		}
	}
	r := strictClaims{
		Issuer:    o.String("iss"),
		Audience:  o.String("aud"),
		User:      o.String("sub"),
		Session:   o.String("sid"),
		Node:      o.String("nid"),
		ID:        o.String("jti"),
		Epoch:     o.Uint("ep", 1, proto.MaxCount),
		IssuedAt:  int64(o.Uint("iat", 1, maxTime)),
		NotBefore: int64(o.Uint("nbf", 1, maxTime)),
		Expires:   int64(o.Uint("exp", 1, maxTime)),
		Ext:       readExt(o),
		Confirm:   readConfirm(o),
	}
	if err := o.Err(); err != nil {
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
		return fmt.Errorf("%s has %d bytes, want 1 to %d", name, len(s), limit)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%s contains a control character", name)
	}
	return nil
}

func checkNumber(name string, n, limit uint64) error {
	if n < 1 || n > limit {
		return fmt.Errorf("%s is not a whole number from 1 to %d", name, limit)
	}
	return nil
}

// check returns the error that read would return for the claims, except for ext.
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
		err = fmt.Errorf("aud is %q, want %s", c.Audience, proto.TokenAudience)
	case c.Confirm != proto.Confirmation{} && !c.Confirm.Valid():
		err = errors.New("cnf is not the thumbprint of a key")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrClaims, err)
	}
	return nil
}

// readExt returns the optional ext as it was written.
func readExt(o strictjson.Object) json.RawMessage {
	ext := o.Raw("ext")
	if len(ext) > proto.MaxExtBytes {
		o.Fail("ext", fmt.Sprintf("%d bytes, expected at most %d", len(ext), proto.MaxExtBytes))
	}
	return bytes.Clone(ext) // not to keep the rest of the token
}

// readConfirm reads the optional cnf, of which only the member jkt is supported. A
// token that is bound in another way must not be accepted as a token that is not bound.
func readConfirm(o strictjson.Object) (c proto.Confirmation) {
	if !o.Has("cnf") {
		return c
	}
	cnf := o.Object("cnf")
	cnf.Only("jkt")
	c.Thumbprint = cnf.String("jkt")
	if !c.Valid() {
		cnf.Fail("jkt", "expected the thumbprint of a key")
	}
	return c
}

// checkTimes checks the times of authentic claims. Of several faults it reports
// ErrExpired last, because Verify returns the claims with it.
func (v *Verifier) checkTimes(c proto.Claims) error {
	leeway, t, longest := v.leeway(), v.now(), v.MaxLifetime
	if longest == 0 {
		longest = DefaultMaxLifetime
	}
	switch {
	case c.Expires <= c.IssuedAt || c.Expires <= c.NotBefore:
		return fmt.Errorf("%w: exp is not after iat and nbf", ErrClaims)
	case c.Expires-c.IssuedAt > int64(longest/time.Second):
		return fmt.Errorf("%w: lifetime of %d s, longer than %s", ErrClaims, c.Expires-c.IssuedAt, longest)
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

// encodeClaims encodes the claims. It returns an error for claims that no verifier
// would accept, so that the mistake shows at the issuer.
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
