// Package strictjson reads JSON objects that come from outside, so that no other
// reader could understand them differently: names are compared exactly, and input
// that is ambiguous, malformed, too long or too deep is refused. encoding/json checks
// the syntax and decodes strings. encoding/json/v2 would do all of this, but needs a
// GOEXPERIMENT in Go 1.26.
package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Rules say which documents their method Parse accepts. The zero value accepts any size
// and DefaultDepth levels, and refuses an object with the same name twice.
type Rules struct {
	MaxBytes   int        // length of the document; 0: no bound
	Duplicates Duplicates // an object with the same name twice

	// MaxDepth is how many levels of objects and arrays a document may have, the
	// outermost counted. 0 means DefaultDepth with RefuseDuplicates, whose check takes time
	// in proportion to the size times the depth, and else the 10,000 of encoding/json.
	MaxDepth int

	// NullIsAbsent makes a member whose value is null count as absent. Many
	// serializers write null for a value that is not set.
	NullIsAbsent bool
}

// DefaultDepth is the depth of documents that Rules without MaxDepth accept.
const DefaultDepth = 32

// maxDepth returns the deepest level to accept, 0 for no bound.
func (r *Rules) maxDepth() int {
	if r.MaxDepth == 0 && r.Duplicates == RefuseDuplicates {
		return DefaultDepth
	}
	return r.MaxDepth
}

// Duplicates says where the same name twice in one object is an error.
type Duplicates int

// The values of Duplicates.
const (
	RefuseDuplicates     Duplicates = iota // in every object of the document
	RefuseReadDuplicates                   // in the outermost object and in those that Object.Object returns
	LastDuplicate                          // nowhere; the last value counts
)

// Error says what is wrong with a document. It never quotes a value, which may be a
// password; it quotes names of up to 40 bytes.
type Error struct {
	Path    string // of the member, such as "placement.region"; empty for the document
	Problem string // such as "expected a string"
}

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Problem
	}
	return e.Path + ": " + e.Problem
}

// Object is a JSON object. Its methods that read members return the zero value after
// the first error, and Err returns that error; objects in one document share it. An
// Object is not safe for concurrent use.
type Object struct {
	members []member
	path    string // with a dot at the end; empty for the outermost object
	doc     *document
}

// member is a member of an object, or an element of an array, which has no name.
type member struct {
	name  string
	named bool // false for an element
	value json.RawMessage
}

// document is what the objects of one document share.
type document struct {
	rules *Rules
	err   error // the first one of the methods that read members
}

// Parse reads a document that is exactly one JSON object in valid UTF-8, with nothing
// but white space before and after it. Members may have any name; see Object.Only. The
// object refers to b, which must not change. Errors are of type *Error.
func (r *Rules) Parse(b []byte) (Object, error) {
	switch most := r.maxDepth(); {
	case r.MaxBytes > 0 && len(b) > r.MaxBytes:
		return Object{}, &Error{Problem: fmt.Sprintf("%d bytes, expected at most %d", len(b), r.MaxBytes)}
	case !utf8.Valid(b):
		return Object{}, &Error{Problem: "not valid UTF-8"}
	case most > 0 && depthOf(b) > most:
		return Object{}, &Error{Problem: fmt.Sprintf("deeper than %d levels", most)}
	case !json.Valid(b) || bytes.TrimSpace(b)[0] != '{':
		return Object{}, diagnose(b)
	}
	return read(b, "", &document{rules: r})
}

// read reads the object at the path, which is valid JSON.
func read(b []byte, path string, doc *document) (Object, error) {
	o := Object{members: split(b), path: path, doc: doc}
	if doc.rules.Duplicates != LastDuplicate {
		if err := checkNames(o.members, doc.rules.Duplicates == RefuseDuplicates); err != nil {
			return Object{}, err
		}
	}
	if doc.rules.NullIsAbsent {
		o.members = slices.DeleteFunc(o.members, func(m member) bool { return string(m.value) == "null" })
	}
	return o, nil
}

// checkNames returns an error if two members have the same name, or, if deep, two members
// of an object inside.
func checkNames(members []member, deep bool) error {
	if name, ok := duplicateOf(members); ok {
		return duplicate(name)
	}
	for _, m := range members {
		if deep && (m.value[0] == '{' || m.value[0] == '[') {
			if err := checkNames(split(m.value), deep); err != nil {
				return err
			}
		}
	}
	return nil
}

// duplicateOf returns a name that occurs twice.
func duplicateOf(members []member) (string, bool) {
	const few = 16 // more of them are sorted, so that the time is not quadratic
	if len(members) > few {
		members = slices.SortedFunc(slices.Values(members), func(a, b member) int { return strings.Compare(a.name, b.name) })
	}
	for i, m := range members {
		for _, before := range members[max(0, i-few):i] {
			if m.name == before.name && m.named {
				return m.name, true
			}
		}
	}
	return "", false
}

// split returns the members of a valid JSON object, or the elements of a valid JSON array.
// They are parts of v. Of encoding/json, only json.Decoder.Token shows a name that occurs
// twice, and it takes several times as long (BenchmarkParse).
func split(v []byte) (list []member) {
	const most = 32 // members to reserve memory for
	list = make([]member, 0, min(1+bytes.Count(v, []byte(",")), most))
	var m member
	depth, begin := 0, 0
	for i := 0; i < len(v); i++ {
		switch c := v[i]; c {
		case '"':
			i = endOfString(v, i)
		case '{', '[':
			if depth++; depth == 1 {
				begin = i + 1
			}
		case ':':
			if depth == 1 {
				m.name, m.named = text(bytes.TrimSpace(v[begin:i]))
				begin = i + 1
			}
		case ',', '}', ']':
			if depth == 1 {
				if m.value = bytes.TrimSpace(v[begin:i]); len(m.value) > 0 { // {} and [] have none
					list = append(list, m)
				}
				begin = i + 1
			}
			if c != ',' {
				depth--
			}
		}
	}
	return list
}

// depthOf returns how many levels of objects and arrays there are in JSON, valid or
// not.
func depthOf(b []byte) (deepest int) {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = endOfString(b, i)
		case '{', '[':
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			depth--
		}
	}
	return deepest
}

// endOfString returns the index of the quote that ends the string at i, or the length
// of b or more if there is none.
func endOfString(b []byte, i int) int {
	for i++; i < len(b) && b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i
}

// Err returns the first error of the methods that read members of the document.
func (o Object) Err() error {
	return o.doc.err
}

// Fail makes Err report a problem with the member, unless there was one before.
func (o Object) Fail(name, problem string) {
	if o.doc.err == nil {
		o.doc.err = &Error{Path: strings.TrimSuffix(o.path+name, "."), Problem: problem}
	}
}

// Names returns the names of all members, in the order of the document.
func (o Object) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, m := range o.members {
			if !yield(m.name) {
				return
			}
		}
	}
}

// Only makes Err report members with other names than these.
func (o Object) Only(names ...string) {
	for name := range o.Names() {
		if !slices.Contains(names, name) {
			o.Fail("", unknown(name)+", expected "+strings.Join(names, ", "))
		}
	}
}

// Has reports whether there is a member of the name.
func (o Object) Has(name string) bool { return o.Raw(name) != nil }

// Raw returns the JSON text of a member, nil if it is absent. It is a part of the
// document.
func (o Object) Raw(name string) json.RawMessage {
	for _, m := range slices.Backward(o.members) {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// String returns the string of a member, which must be there.
func (o Object) String(name string) string {
	s, ok := text(o.Raw(name))
	if !ok {
		o.Fail(name, "expected a string")
	}
	return s
}

// OptionalString returns the string of a member, "" if it is absent.
func (o Object) OptionalString(name string) string {
	if !o.Has(name) {
		return ""
	}
	return o.String(name)
}

// OptionalStrings returns the strings in the array of a member, nil if it is absent.
// More than most are an error.
func (o Object) OptionalStrings(name string, most int) []string {
	v := o.Raw(name)
	if v == nil {
		return nil
	}
	if v[0] != '[' {
		o.Fail(name, "expected an array of strings")
		return nil
	}
	list := []string{}
	for _, item := range split(v) {
		s, ok := text(item.value)
		switch {
		case !ok:
			o.Fail(fmt.Sprintf("%s[%d]", name, len(list)), "expected a string")
			return nil
		case len(list) == most:
			o.Fail(name, fmt.Sprintf("expected at most %d items", most))
			return nil
		}
		list = append(list, s)
	}
	return list
}

// Bool returns the truth value of a member, which must be there.
func (o Object) Bool(name string) bool {
	switch string(o.Raw(name)) {
	case "true":
		return true
	case "false":
	default:
		o.Fail(name, "expected true or false")
	}
	return false
}

// OptionalBool returns the truth value of a member, false if it is absent.
func (o Object) OptionalBool(name string) bool { return o.Has(name) && o.Bool(name) }

// Uint returns the integer of a member, which must be there, from low to high and
// written in digits alone. 1.0 and 1e0 are refused: a reader that uses floating point
// cannot tell them from 1, and others refuse them.
func (o Object) Uint(name string, low, high uint64) uint64 {
	n, err := strconv.ParseUint(string(o.Raw(name)), 10, 64)
	if err != nil || n < low || n > high {
		o.Fail(name, fmt.Sprintf("expected an integer from %d to %d, in digits alone", low, high))
		return 0
	}
	return n
}

// Object returns the object of a member, which must be there.
func (o Object) Object(name string) Object {
	inner := Object{path: o.path + name + ".", doc: o.doc}
	v := o.Raw(name)
	if len(v) == 0 || v[0] != '{' {
		o.Fail(name, "expected an object")
		return inner
	}
	parsed, err := read(v, inner.path, o.doc)
	if err != nil {
		o.Fail(name, err.Error())
		return inner
	}
	return parsed
}

// OptionalObject returns the object of a member, an empty one if it is absent.
func (o Object) OptionalObject(name string) Object {
	if !o.Has(name) {
		return Object{path: o.path + name + ".", doc: o.doc}
	}
	return o.Object(name)
}

// text returns what a JSON string says, and whether v is one.
func text(v json.RawMessage) (s string, ok bool) {
	if len(v) == 0 || v[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1]), true
	}
	return s, json.Unmarshal(v, &s) == nil
}
