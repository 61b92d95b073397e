package process

import (
	"encoding/json"
	"io"
)

// OutputFlag is the flag of every command that prints data.
type OutputFlag struct {
	Output string `help:"Format of the output: table for people, json for programs." enum:"table,json" default:"table" placeholder:"FORMAT"`
}

// JSON reports whether the output is JSON.
func (f OutputFlag) JSON() bool { return f.Output == "json" }

// WriteJSON writes v as one line of JSON.
func WriteJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
