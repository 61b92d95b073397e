package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/usher-broker/usher/proto/jsonwalk"
)

// object is a JSON object with every name exactly as it was written. Decoding
// into a struct would take "SUB" for "sub" and the last of two.
type object map[string]json.RawMessage

// readObject reads one JSON object in valid UTF-8 with no name twice and
// nothing after it. The values are parts of b.
func readObject(b []byte) (object, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not UTF-8")
	}
	if !json.Valid(b) {
		return nil, errors.New("not JSON")
	}
	if jsonwalk.Kind(b) != '{' {
		return nil, errors.New("not a JSON object")
	}
	o := make(object, 12)
	for name, v := range jsonwalk.Members(b) {
		if _, twice := o[name]; twice {
			return nil, fmt.Errorf("%q twice", name)
		}
		o[name] = v
	}
	return o, nil
}

// decodeObject reads the object of a segment.
func decodeObject(segment string) (object, error) {
	b, err := decodeSegment(segment)
	if err != nil {
		return nil, err
	}
	return readObject(b)
}

func (o object) string(name string, dst *string) error {
	v := o[name]
	if len(v) == 0 || v[0] != '"' {
		return fmt.Errorf("%s is not a string", name)
	}
	*dst = jsonwalk.Text(v)
	return nil
}

// number reads a whole number from 1 to limit.
func (o object) number(name string, limit uint64, dst *uint64) (err error) {
	if len(o[name]) == 0 {
		return fmt.Errorf("%s is missing", name)
	}
	if *dst, err = strconv.ParseUint(string(o[name]), 10, 64); err != nil {
		*dst = 0
	}
	return checkNumber(name, *dst, limit)
}

func checkNumber(name string, n, limit uint64) error {
	if n < 1 || n > limit {
		return fmt.Errorf("%s is not a whole number from 1 to %d", name, limit)
	}
	return nil
}
