// Package jsonwalk walks over JSON that is known to be well-formed (json.Valid and
// utf8.Valid say so), without copying it. It is for readers that must see every name
// as it was written, and the second of two: decoding into a struct or a map shows
// neither, and asking a json.Decoder token by token costs some twenty times as much.
package jsonwalk

import (
	"bytes"
	"encoding/json"
	"iter"
)

const space = " \t\r\n"

// Kind returns the first byte of a value, which says what it is.
func Kind(b []byte) byte { return trim(b)[0] }

// trim is bytes.TrimLeft(b, space), which takes several times as long.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\r' || b[0] == '\n') {
		b = b[1:]
	}
	return b
}

// Members yields the members of an object in the order of the text, names without
// their escapes. The values are parts of b.
func Members(b []byte) iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		w := walk{b}
		w.pass('{')
		for !w.pass('}') {
			w.pass(',')
			name := Text(w.value())
			w.pass(':')
			if !yield(name, w.value()) {
				return
			}
		}
	}
}

// Elements yields the elements of an array. They are parts of b.
func Elements(b []byte) iter.Seq[json.RawMessage] {
	return func(yield func(json.RawMessage) bool) {
		w := walk{b}
		w.pass('[')
		for !w.pass(']') {
			w.pass(',')
			if !yield(w.value()) {
				return
			}
		}
	}
}

// Text returns what a string says.
func Text(v []byte) (s string) {
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1])
	}
	_ = json.Unmarshal(v, &s) // it is well-formed
	return s
}

// walk is what is left of the text.
type walk struct{ b []byte }

// pass passes over the byte if it comes next, after any space.
func (w *walk) pass(c byte) bool {
	w.b = trim(w.b)
	if w.b[0] != c {
		return false
	}
	w.b = w.b[1:]
	return true
}

// value passes over the next value and returns it.
func (w *walk) value() json.RawMessage {
	w.b = trim(w.b)
	switch w.b[0] {
	case '"':
		return w.take(endOfString(w.b))
	case '{', '[':
		return w.take(endOfNested(w.b))
	}
	n := bytes.IndexAny(w.b, ",}]"+space)
	if n < 0 {
		n = len(w.b)
	}
	return w.take(n)
}

func (w *walk) take(n int) json.RawMessage {
	v := w.b[:n:n]
	w.b = w.b[n:]
	return v
}

// endOfString returns the length of the string that b begins with.
func endOfString(b []byte) int {
	for i := 1; ; i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// endOfNested returns the length of the object or array that b begins with.
func endOfNested(b []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch b[i] {
		case '"':
			i += endOfString(b[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
}
