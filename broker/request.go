package broker

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// ErrInvalid is wrapped by the errors of a request that cannot be: they say
// what is wrong with it, in words that may be shown to the caller.
var ErrInvalid = errors.New("invalid request")

// ErrNoSigner: this broker has no key and signs no tokens.
var ErrNoSigner = errors.New("no signing key")

// newRecord returns the record of a new session, without a node.
func newRecord(req proto.AssignmentRequest) (session.Record, error) {
	p := req.Placement
	if req.User == "" {
		return session.Record{}, fmt.Errorf("%w: no user", ErrInvalid)
	}
	for _, name := range [][2]string{{"user", req.User}, {"region", p.Region}, {"pool", p.Pool}, {"group", p.Group}} {
		if err := checkName(name[0], name[1]); err != nil {
			return session.Record{}, err
		}
	}
	if err := checkFallback(p); err != nil {
		return session.Record{}, err
	}
	if req.Confirm != (proto.Confirmation{}) && !req.Confirm.Valid() {
		return session.Record{}, fmt.Errorf("%w: jkt is not the SHA-256 thumbprint of a key in base64url", ErrInvalid)
	}
	ext, err := checkExt(req.Ext)
	if err != nil {
		return session.Record{}, err
	}
	return session.Record{
		ID: session.NewID(req.User), User: req.User,
		Pool: cmp.Or(p.Pool, proto.DefaultPool), Region: p.Region, Group: p.Group, Ext: ext,
		Fallback: p.Fallback, Strict: p.Strict,
	}, nil
}

func checkFallback(p proto.Placement) error {
	switch {
	case len(p.Fallback) > proto.MaxFallback:
		return fmt.Errorf("%w: more than %d fallback regions", ErrInvalid, proto.MaxFallback)
	case p.Region == "" && (len(p.Fallback) > 0 || p.Strict):
		return fmt.Errorf("%w: fallback and strict are for those that name a region", ErrInvalid)
	}
	for _, region := range p.Fallback {
		if region == "" {
			return fmt.Errorf("%w: a fallback region without a name", ErrInvalid)
		}
		if err := checkName("fallback", region); err != nil {
			return err
		}
	}
	return nil
}

// checkName allows what a token allows.
func checkName(what, s string) error {
	switch {
	case len(s) > proto.MaxNameBytes:
		return fmt.Errorf("%w: %s is longer than %d bytes", ErrInvalid, what, proto.MaxNameBytes)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %s is not valid UTF-8", ErrInvalid, what)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%w: %s contains a control character", ErrInvalid, what)
	}
	return nil
}

// checkExt returns ext as it travels, without white space; nil for null.
func checkExt(ext json.RawMessage) (json.RawMessage, error) {
	if len(ext) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	if !utf8.Valid(ext) || json.Compact(&b, ext) != nil {
		return nil, fmt.Errorf("%w: ext is not JSON", ErrInvalid)
	}
	switch {
	case b.String() == "null":
		return nil, nil
	case b.Len() > proto.MaxExtBytes:
		return nil, fmt.Errorf("%w: ext has %d bytes, more than %d", ErrInvalid, b.Len(), proto.MaxExtBytes)
	}
	return b.Bytes(), nil
}
