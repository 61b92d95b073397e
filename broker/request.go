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

// ErrInvalid is wrapped by the errors for an invalid request. Their texts say
// what is wrong with it and may be shown to the caller.
var ErrInvalid = errors.New("invalid request")

// ErrNoSigner: this broker has no key and signs no tokens.
var ErrNoSigner = errors.New("no signing key")

// newRecord returns the record of a new session, without its node.
func newRecord(req proto.AssignmentRequest) (session.Record, error) {
	p := req.Placement
	if req.User == "" {
		return session.Record{}, fmt.Errorf("%w: user is missing", ErrInvalid)
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
		return fmt.Errorf("%w: %d fallback regions, at most %d are allowed", ErrInvalid, len(p.Fallback), proto.MaxFallback)
	case p.Region == "" && (len(p.Fallback) > 0 || p.Strict):
		return fmt.Errorf("%w: fallback and strict require a region", ErrInvalid)
	}
	for _, region := range p.Fallback {
		if region == "" {
			return fmt.Errorf("%w: a fallback region has no name", ErrInvalid)
		}
		if err := checkName("fallback", region); err != nil {
			return err
		}
	}
	return nil
}

// checkName applies the rules for names in a token.
func checkName(what, s string) error {
	switch {
	case len(s) > proto.MaxNameBytes:
		return fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrInvalid, what, len(s), proto.MaxNameBytes)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %s is not valid UTF-8", ErrInvalid, what)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%w: %s contains a control character", ErrInvalid, what)
	}
	return nil
}

// checkExt returns ext as it is sent, without white space; nil for null.
func checkExt(ext json.RawMessage) (json.RawMessage, error) {
	if len(ext) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	if !utf8.Valid(ext) || json.Compact(&b, ext) != nil {
		return nil, fmt.Errorf("%w: ext is not valid JSON", ErrInvalid)
	}
	switch {
	case b.String() == "null":
		return nil, nil
	case b.Len() > proto.MaxExtBytes:
		return nil, fmt.Errorf("%w: ext has %d bytes, at most %d are allowed", ErrInvalid, b.Len(), proto.MaxExtBytes)
	}
	return b.Bytes(), nil
}
