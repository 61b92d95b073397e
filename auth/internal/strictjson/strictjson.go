// Package strictjson reads the small JSON bodies of the public interface so
// that no other reader could understand them differently.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/usher-broker/usher/proto/jsonwalk"
)

// MaxDepth is how deep arrays and objects may lie in one another.
const MaxDepth = 16

// Object is a JSON object: its values by their names, exactly as they were
// written. (Decoding into a struct would take "METHOD" for "method".) A member
// that is null counts as absent, because many serializers write that.
type Object map[string]json.RawMessage

// Read reads exactly one object: valid UTF-8, no name twice in any object in
// it, no deeper than MaxDepth, nothing after it. Members that nobody asks for
// are of no consequence. Errors say what is wrong and quote at most a name.
func Read(b []byte) (Object, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not valid UTF-8")
	}
	if json.Valid(b) && jsonwalk.Kind(b) == '{' && plainly(b, 1) {
		o := make(Object)
		for name, v := range jsonwalk.Members(b) {
			if string(v) != "null" {
				o[name] = v
			}
		}
		return o, nil
	}
	return readSlowly(b)
}

// plainly reports whether there is no name twice in any object of the value, nor
// anything too deep.
func plainly(b []byte, depth int) bool {
	if depth > MaxDepth {
		return false
	}
	if jsonwalk.Kind(b) == '[' {
		for v := range jsonwalk.Elements(b) {
			if isNested(v) && !plainly(v, depth+1) {
				return false
			}
		}
		return true
	}
	var room [16]string
	names := room[:0]
	for name, v := range jsonwalk.Members(b) {
		if len(names) == cap(room) || slices.Contains(names, name) || isNested(v) && !plainly(v, depth+1) {
			return false // or perhaps not: the other way tells
		}
		names = append(names, name)
	}
	return true
}

func isNested(v []byte) bool { return v[0] == '{' || v[0] == '[' }

// readSlowly is Read for what is wrong, or unusual: it finds out what it is.
func readSlowly(b []byte) (Object, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // a number is only looked at when it is used
	first, err := d.Token()
	switch {
	case err == io.EOF:
		return nil, errors.New("empty")
	case err != nil:
		return nil, plain(err)
	case first != json.Delim('{'):
		return nil, errors.New("not a JSON object")
	}
	if err := object(d, 1); err != nil {
		return nil, plain(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something after the JSON object")
	}
	var o Object
	if err := json.Unmarshal(b, &o); err != nil {
		return nil, plain(err)
	}
	for name, v := range o {
		if string(v) == "null" {
			delete(o, name)
		}
	}
	return o, nil
}

// Text returns the string of that name, "" when there is none.
func (o Object) Text(name string) (string, error) {
	v, ok := o[name]
	if !ok {
		return "", nil
	}
	var s string
	if v[0] != '"' || json.Unmarshal(v, &s) != nil {
		return "", fmt.Errorf("%q is not a string", name)
	}
	return s, nil
}

// Texts returns the array of strings of that name, none when there is none, and
// no more than most.
func (o Object) Texts(name string, most int) ([]string, error) {
	v, ok := o[name]
	if !ok {
		return nil, nil
	}
	var items []json.RawMessage
	if v[0] != '[' || json.Unmarshal(v, &items) != nil {
		return nil, fmt.Errorf("%q is not an array", name)
	}
	if len(items) > most {
		return nil, fmt.Errorf("%q has more than %d items", name, most)
	}
	list := make([]string, len(items))
	for i, item := range items {
		if item[0] != '"' || json.Unmarshal(item, &list[i]) != nil {
			return nil, fmt.Errorf("%q is not an array of strings", name)
		}
	}
	return list, nil
}

// Flag returns the truth value of that name, false when there is none.
func (o Object) Flag(name string) (b bool, err error) {
	if v, ok := o[name]; ok && json.Unmarshal(v, &b) != nil {
		return false, fmt.Errorf("%q is neither true nor false", name)
	}
	return b, nil
}

// Object returns the object of that name, an empty one when there is none.
func (o Object) Object(name string) (Object, error) {
	v, ok := o[name]
	if !ok {
		return nil, nil
	}
	inner, err := Read(v)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return inner, nil
}

func object(d *json.Decoder, depth int) error {
	seen := make(map[string]bool)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		key := name.(string) // the decoder admits nothing else here
		if seen[key] {
			return twiceError(key)
		}
		seen[key] = true
		if err := value(d, depth); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

func value(d *json.Decoder, depth int) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth++; depth > MaxDepth {
		return errDeep
	}
	if delim == '{' {
		return object(d, depth)
	}
	for d.More() {
		if err := value(d, depth); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

var errDeep = fmt.Errorf("deeper than %d levels", MaxDepth)

type twiceError string

func (e twiceError) Error() string {
	if len(e) > 40 {
		return "a name twice in one object"
	}
	return fmt.Sprintf("%q twice in one object", string(e))
}

// plain keeps from an error of encoding/json what it may quote of the input,
// which may be a password.
func plain(err error) error {
	if _, ok := errors.AsType[twiceError](err); ok || errors.Is(err, errDeep) {
		return err
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("not JSON, from byte %d on", e.Offset)
	}
	return errors.New("not JSON; is it cut short?")
}
