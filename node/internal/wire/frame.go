package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// Bits and opcodes of a frame (RFC 6455, section 5.2).
const (
	finBit       = 0x80
	reservedBits = 0x70
	maskBit      = 0x80

	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

// maxControl is the largest payload of a ping, a pong or a close.
const maxControl = 125

// Close codes that the package itself sends or interprets.
const (
	codeProtocolError = 1002
	codeNone          = 1005 // a close frame without a code; never sent
	codeInternal      = 1011
)

// header is the header of a frame of the client.
type header struct {
	fin      bool
	reserved bool
	masked   bool
	opcode   byte
	length   uint64
	key      uint32 // mask of the next four bytes of payload, the first in the lowest byte
}

// parseHeader returns the header at the start of b and its length, or 0 if b does not
// have all of it. An impossible length ends the header.
func parseHeader(b []byte) (h header, n int) {
	if len(b) < 2 {
		return h, 0
	}
	h.fin, h.reserved, h.opcode = b[0]&finBit != 0, b[0]&reservedBits != 0, b[0]&0xf
	h.masked, h.length = b[1]&maskBit != 0, uint64(b[1]&^maskBit)
	n = 2
	switch h.length {
	case 126:
		if n = 4; len(b) < n {
			return h, 0
		}
		h.length = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if n = 10; len(b) < n {
			return h, 0
		}
		h.length = binary.BigEndian.Uint64(b[2:])
	}
	if !h.masked || h.length > math.MaxInt64 {
		return h, n
	}
	if len(b) < n+4 {
		return h, 0
	}
	h.key = binary.LittleEndian.Uint32(b[n:])
	return h, n + 4
}

// control reports whether the frame is a ping, a pong or a close.
func (h header) control() bool { return h.opcode >= opClose }

// check returns what is wrong with the frame, or nil. within says whether a message has
// begun and not ended.
func (h header) check(within bool) *ProtocolError {
	switch {
	case h.length > math.MaxInt64:
		return violation(0, "a frame of %d bytes", h.length)
	case h.reserved:
		return violation(codeProtocolError, "a frame with reserved bits")
	case !h.masked:
		return violation(0, "a frame without a mask")
	}
	switch h.opcode {
	case opContinuation:
		if !within {
			return violation(codeProtocolError, "a continuation of no message")
		}
	case opText, opBinary:
		if within {
			return violation(codeProtocolError, "a message within a message")
		}
	case opClose, opPing, opPong:
		if h.length > maxControl {
			return violation(codeProtocolError, "a control frame of %d bytes", h.length)
		}
		if !h.fin {
			return violation(codeProtocolError, "a fragmented control frame")
		}
	default:
		return violation(codeProtocolError, "a frame with opcode %d", h.opcode)
	}
	return nil
}

// ProtocolError is a violation of RFC 6455 by the client.
type ProtocolError struct {
	Code   uint16 // the close code that was sent to the client; 0 if none was
	Reason string // what the client did wrong
}

func (e *ProtocolError) Error() string { return "wire: the client sent " + e.Reason }

func violation(code uint16, format string, args ...any) *ProtocolError {
	return &ProtocolError{code, fmt.Sprintf(format, args...)}
}

// CloseError is a close frame of the client.
type CloseError struct {
	Code   uint16 // 1005 if the frame has none
	Reason string
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("wire: the client closed the connection with code %d and reason %q", e.Code, e.Reason)
}

// parseClose returns what the payload of a close frame says.
func parseClose(p []byte) (*CloseError, *ProtocolError) {
	switch len(p) {
	case 0:
		return &CloseError{Code: codeNone}, nil
	case 1:
		return nil, violation(codeProtocolError, "a close frame of one byte")
	}
	code := binary.BigEndian.Uint16(p)
	if !validCode(code) {
		return nil, violation(codeProtocolError, "the close code %d", code)
	}
	return &CloseError{code, string(p[2:])}, nil
}

// validCode reports whether a close frame may have the code.
func validCode(code uint16) bool {
	switch code {
	case 1004, codeNone, 1006:
		return false
	}
	return code >= 1000 && code <= 1014 || code >= 3000 && code <= 4999
}

// appendHeader appends the header of an unfragmented frame of the server.
func appendHeader(b []byte, opcode byte, length int) []byte {
	switch {
	case length < 126:
		return append(b, finBit|opcode, byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, finBit|opcode, 126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(b, finBit|opcode, 127), uint64(length))
}

// unmask removes the mask of the client from b, and returns the key for what follows b
// in the same frame.
func unmask(b []byte, key uint32) uint32 {
	for k := uint64(key)<<32 | uint64(key); len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
	}
	for i := range b {
		b[i] ^= byte(key)
		key = bits.RotateLeft32(key, -8)
	}
	return key
}
