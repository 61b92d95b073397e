package proto

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// A record is a version byte followed by fields: a tag byte, a length byte, and
// that many bytes. Numbers are unsigned varints. Unknown tags are ignored, so that
// members of two versions understand each other. A field with its zero value is
// omitted.
const recordVersion = 1

const (
	maxUint32 = 1<<32 - 1
	maxUint64 = 1<<64 - 1
	maxTime   = 1<<63 - 1
)

type recordWriter struct {
	b     []byte
	start int
	err   error
}

func (w *recordWriter) text(tag byte, s string) {
	switch {
	case s == "":
	case len(s) > 255:
		w.err = fmt.Errorf("%w: field %d has %d bytes, more than 255", ErrPeer, tag, len(s))
	case !utf8.ValidString(s):
		w.err = fmt.Errorf("%w: field %d: %w", ErrPeer, tag, ErrInvalidUTF8)
	default:
		w.b = append(append(w.b, tag, byte(len(s))), s...)
	}
}

func (w *recordWriter) number(tag byte, n uint64) {
	if n == 0 {
		return
	}
	w.b = append(w.b, tag, 0)
	at := len(w.b)
	w.b = binary.AppendUvarint(w.b, n)
	w.b[at-1] = byte(len(w.b) - at)
}

func (w *recordWriter) finish() ([]byte, error) {
	if n := len(w.b) - w.start; w.err == nil && n > MaxPeerBytes {
		w.err = fmt.Errorf("%w: %d bytes, more than %d", ErrPeer, n, MaxPeerBytes)
	}
	if w.err != nil {
		return w.b[:w.start], w.err
	}
	return w.b, nil
}

// field is the value of one field. Its methods set *err if the value is invalid.
type field struct {
	b   []byte
	err *error
}

func (f field) text() string {
	if !utf8.Valid(f.b) {
		*f.err = fmt.Errorf("%w: %w", ErrPeer, ErrInvalidUTF8)
		return ""
	}
	return string(f.b)
}

func (f field) number(limit uint64) uint64 {
	n, size := binary.Uvarint(f.b)
	if size <= 0 || size != len(f.b) || n > limit {
		*f.err = fmt.Errorf("%w: number %x out of range, at most %d", ErrPeer, f.b, limit)
		return 0
	}
	return n
}

// readRecord calls each for every field of the record b.
func readRecord(b []byte, each func(tag byte, f field)) error {
	if len(b) == 0 || len(b) > MaxPeerBytes {
		return fmt.Errorf("%w: %d bytes, must be 1 to %d", ErrPeer, len(b), MaxPeerBytes)
	}
	if b[0] != recordVersion {
		return fmt.Errorf("%w: version %d, must be %d", ErrPeer, b[0], recordVersion)
	}
	var err error
	for b = b[1:]; len(b) > 0 && err == nil; {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return fmt.Errorf("%w: truncated", ErrPeer)
		}
		n := 2 + int(b[1])
		each(b[0], field{b[2:n], &err})
		b = b[n:]
	}
	return err
}
