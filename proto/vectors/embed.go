// Package vectors holds the conformance vectors of the session protocol, and
// loads them for tests in Go. README.md describes each file; other languages
// read the files themselves.
package vectors

import (
	"bytes"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// FS holds the JSON files of this directory.
//
//go:embed *.json
var FS embed.FS

// Messages returns messages.json.
func Messages() []Message { return load[Message]("messages.json") }

// BadMessages returns bad_messages.json.
func BadMessages() []BadMessage { return load[BadMessage]("bad_messages.json") }

// Controls returns controls.json.
func Controls() []Control { return load[Control]("controls.json") }

// BadControls returns bad_controls.json.
func BadControls() []BadControl { return load[BadControl]("bad_controls.json") }

// CloseCodes returns close_codes.json.
func CloseCodes() []CloseCode { return load[CloseCode]("close_codes.json") }

// Backoffs returns backoff.json.
func Backoffs() []Backoff { return load[Backoff]("backoff.json") }

// Handshakes returns handshakes.json, with every default filled in.
func Handshakes() []Handshake { return load[Handshake]("handshakes.json") }

// Resumes returns resume.json.
func Resumes() []Resume { return load[Resume]("resume.json") }

// Proofs returns proofs.json.
func Proofs() []Proof { return load[Proof]("proofs.json") }

// Streams returns stream.json.
func Streams() []Stream { return load[Stream]("stream.json") }

// load reads a file that is embedded in this package. It panics if it cannot read
// the file: that is a fault of the build, not of the caller.
func load[T any](name string) []T {
	b, err := FS.ReadFile(name)
	if err != nil {
		panic(fmt.Sprintf("vectors: %v", err))
	}
	var list []T
	if err := strict(b, &list); err != nil {
		panic(fmt.Sprintf("vectors: %s: %v", name, err))
	}
	return list
}

// strict decodes JSON and refuses unknown fields: a misspelt field would check
// nothing.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// Hex is a byte string that is written in hexadecimal.
type Hex []byte

// UnmarshalText decodes hexadecimal digits.
func (h *Hex) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}
