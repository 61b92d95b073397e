package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Unmarshal decodes a document that is exactly one JSON value in valid UTF-8 into v,
// as encoding/json does, and refuses members that v does not have: a misspelt name is
// more likely than one of a later version. Unlike Parse it accepts names that differ
// from those of v in case only, and the same name twice. Errors are of type *Error.
func Unmarshal(b []byte, v any) error {
	if !utf8.Valid(b) {
		return &Error{Problem: "not valid UTF-8"}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return describe(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errTrailing
	}
	return nil
}

var (
	errTrailing  = &Error{Problem: "something after the JSON object"}
	errNotObject = &Error{Problem: "not a JSON object"}
)

// diagnose says why b is not a single JSON object.
func diagnose(b []byte) error {
	var first json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&first); err != nil {
		return describe(err)
	}
	if first[0] != '{' {
		return errNotObject
	}
	return errTrailing
}

// describe says what an error of encoding/json means, without what it may quote of the
// input.
func describe(err error) error {
	if err == io.EOF {
		return &Error{Problem: "empty, expected a JSON object"}
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &Error{Problem: fmt.Sprintf("not JSON, from byte %d on", e.Offset)}
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if e.Field == "" {
			return errNotObject
		}
		return &Error{Path: e.Field, Problem: fmt.Sprintf("expected %s, not a JSON %s", nameOf(e.Type), e.Value)}
	}
	if quoted, found := strings.CutPrefix(err.Error(), "json: unknown field "); found {
		name, _ := strconv.Unquote(quoted)
		return &Error{Problem: unknown(name)}
	}
	return &Error{Problem: "not JSON; is it cut short?"}
}

// nameOf returns the JSON type that is decoded into a Go type.
func nameOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "a number"
}

const mostQuoted = 40 // bytes of a name

func unknown(name string) string {
	if len(name) > mostQuoted {
		return "unknown field with a very long name"
	}
	return fmt.Sprintf("unknown field %q", name)
}

func duplicate(name string) error {
	if len(name) > mostQuoted {
		return &Error{Problem: "a name twice in one object"}
	}
	return &Error{Problem: fmt.Sprintf("%q twice in one object", name)}
}
