package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// object is a JSON object with every name exactly as it was written. Decoding
// into a struct would take "SUB" for "sub" and the last of two.
type object map[string]json.RawMessage

// readObject reads one JSON object in valid UTF-8 with no name twice and
// nothing after it.
func readObject(b []byte) (object, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	o := make(object)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		key := name.(string) // the decoder admits nothing else here
		if _, twice := o[key]; twice {
			return nil, fmt.Errorf("%q twice", key)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		o[key] = value
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	return o, nil
}

// decodeObject reads the object of a segment.
func decodeObject(segment string) (object, error) {
	b, err := parser.DecodeSegment(segment)
	if err != nil {
		return nil, err
	}
	return readObject(b)
}

func (o object) string(name string, dst *string) error {
	if v := o[name]; len(v) == 0 || v[0] != '"' {
		return fmt.Errorf("%s is not a string", name)
	}
	return json.Unmarshal(o[name], dst)
}

// number reads a whole number from 1 to limit.
func (o object) number(name string, limit uint64, dst *uint64) error {
	if len(o[name]) == 0 {
		return fmt.Errorf("%s is missing", name)
	}
	if err := json.Unmarshal(o[name], dst); err != nil || *dst < 1 || *dst > limit {
		return fmt.Errorf("%s is not a whole number from 1 to %d", name, limit)
	}
	return nil
}
