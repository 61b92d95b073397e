package wiretest

import (
	"slices"
	"strings"
)

// Case is what a client writes below the protocol of the messages, and the result: a
// close code, 0 for a connection that ends without one, or StaysOpen, with the frames
// that come back.
type Case struct {
	Name  string
	Bytes string
	Code  int
	Back  []string // first byte and payload of each frame
}

// StaysOpen is the code of a connection that stays open.
const StaysOpen = -1

// codeTooLarge is the close code of a server for a message that exceeds its limit.
const codeTooLarge = 4004

// First bytes of frames.
const (
	textMsg, binaryMsg, more = 0x81, 0x82, 0x00
	ping, pong, closes       = 0x89, 0x8a, 0x88
)

const (
	zero  = "\x00\x00\x00\x00" // a mask that changes nothing
	hello = "\x00hello"        // a message
)

// f returns a frame, and head one with a header of its own.
func f(first byte, payload string) string { return string(Masked(nil, first, []byte(payload))) }

func head(first, length byte, rest string) string { return string([]byte{first, length}) + rest }

// FrameCases returns the frames of RFC 6455, and what a malicious client makes of them,
// for a server that sends every binary message back, takes at most 65,537 bytes, and
// closes with 4004 for more. Every message begins with a zero byte.
func FrameCases() []Case {
	return slices.Concat(messageCases(), reservedCases(), fragmentCases(), controlCases(), closeCases(), otherCases())
}

// messageCases returns the cases of a message in one frame.
func messageCases() []Case {
	return []Case{
		{"message", f(binaryMsg, hello), StaysOpen, []string{"\x82" + hello}},
		{"empty payload", f(binaryMsg, "\x00"), StaysOpen, []string{"\x82\x00"}},
		{"largest", f(binaryMsg, "\x00"+strings.Repeat("x", 65000)), StaysOpen, []string{"\x82\x00" + strings.Repeat("x", 65000)}},
		{"length in 2 bytes where 1 does", head(binaryMsg, 0xfe, "\x00\x06"+zero+hello), StaysOpen, []string{"\x82" + hello}},
		{"length in 8 bytes where 1 does", head(binaryMsg, 0xff, "\x00\x00\x00\x00\x00\x00\x00\x06"+zero+hello), StaysOpen, []string{"\x82" + hello}},
		{"too large by a byte", head(binaryMsg, 0xff, "\x00\x00\x00\x00\x00\x01\x00\x02"+zero+"\x00"+strings.Repeat("x", 65537)), codeTooLarge, nil},
		{"length 2^31", head(binaryMsg, 0xff, "\x00\x00\x00\x00\x80\x00\x00\x00"+zero+strings.Repeat("\x00", 70<<10)), codeTooLarge, nil},
		{"length 2^63-1", head(binaryMsg, 0xff, "\x7f\xff\xff\xff\xff\xff\xff\xff"+zero+strings.Repeat("\x00", 70<<10)), codeTooLarge, nil},
		{"length 2^63", head(binaryMsg, 0xff, "\x80\x00\x00\x00\x00\x00\x00\x00"+zero), 0, nil},
		{"length 2^64-1", head(binaryMsg, 0xff, "\xff\xff\xff\xff\xff\xff\xff\xff"+zero), 0, nil},
		{"unmasked", head(binaryMsg, 0x06, hello), 0, nil},
		{"unmasked ping", head(ping, 0x00, ""), 0, nil},
	}
}

// reservedCases returns the cases of reserved bits and opcodes.
func reservedCases() []Case {
	return []Case{
		{"reserved bit 1", f(binaryMsg|0x40, hello), 1002, nil},
		{"reserved bit 2", f(binaryMsg|0x20, hello), 1002, nil},
		{"reserved bit 3", f(binaryMsg|0x10, hello), 1002, nil},
		{"all reserved bits", f(binaryMsg|0x70, hello), 1002, nil},
		{"reserved bit on a ping", f(ping|0x40, ""), 1002, nil},
		{"opcode 3", f(0x83, hello), 1002, nil},
		{"opcode 4", f(0x84, hello), 1002, nil},
		{"opcode 5", f(0x85, hello), 1002, nil},
		{"opcode 6", f(0x86, hello), 1002, nil},
		{"opcode 7", f(0x87, hello), 1002, nil},
		{"opcode 11", f(0x8b, hello), 1002, nil},
		{"opcode 12", f(0x8c, hello), 1002, nil},
		{"opcode 13", f(0x8d, hello), 1002, nil},
		{"opcode 14", f(0x8e, hello), 1002, nil},
		{"opcode 15", f(0x8f, hello), 1002, nil},
	}
}

// fragmentCases returns the cases of messages in several frames.
func fragmentCases() []Case {
	return []Case{
		{"two fragments", f(0x02, "\x00hel") + f(0x80, "lo"), StaysOpen, []string{"\x82" + hello}},
		{"an empty first fragment", f(0x02, "") + f(0x80, hello), StaysOpen, []string{"\x82" + hello}},
		{"an empty last fragment", f(0x02, hello) + f(0x80, ""), StaysOpen, []string{"\x82" + hello}},
		{"a byte each", f(0x02, "\x00") + f(more, "h") + f(more, "e") + f(more, "l") + f(more, "l") + f(0x80, "o"), StaysOpen, []string{"\x82" + hello}},
		{"a ping between", f(0x02, "\x00hel") + f(ping, "now") + f(0x80, "lo"), StaysOpen, []string{"\x8anow", "\x82" + hello}},
		{"a pong between", f(0x02, "\x00hel") + f(pong, "now") + f(0x80, "lo"), StaysOpen, []string{"\x82" + hello}},
		{"a close between", f(0x02, "\x00hel") + f(closes, "\x03\xe8"), 1000, nil},
		{"continuation of nothing", f(0x80, hello), 1002, nil},
		{"continuation of nothing, and more", f(more, hello), 1002, nil},
		{"continuation of a complete message", f(0x02, "\x00hel") + f(0x80, "lo") + f(0x80, "!"), 1002, nil},
		{"a message within a message", f(0x02, "\x00hel") + f(binaryMsg, hello), 1002, nil},
		{"a text within a message", f(0x02, "\x00hel") + f(textMsg, `{"type":"ack","received":0}`), 1002, nil},
		{"too large in fragments", f(0x02, "\x00") + strings.Repeat(f(more, strings.Repeat("x", 1024)), 65), codeTooLarge, nil},
		{"1,000 empty fragments", f(0x02, "\x00") + strings.Repeat(f(more, ""), 1000) + f(0x80, "x"), StaysOpen, []string{"\x82\x00x"}},
		{"empty fragments without end", f(0x02, "\x00") + strings.Repeat(f(more, ""), 3000), 0, nil},
	}
}

// controlCases returns the cases of pings and pongs.
func controlCases() []Case {
	return []Case{
		{"ping", f(ping, ""), StaysOpen, []string{"\x8a"}},
		{"ping of 125 bytes", f(ping, strings.Repeat("p", 125)), StaysOpen, []string{"\x8a" + strings.Repeat("p", 125)}},
		{"ping of 126 bytes", f(ping, strings.Repeat("p", 126)), 1002, nil},
		{"ping with a length in 2 bytes", head(ping, 0xfe, "\x00\x01"+zero+"x"), StaysOpen, []string{"\x8ax"}},
		{"ping of 2^63 bytes", head(ping, 0xff, "\x80\x00\x00\x00\x00\x00\x00\x00"+zero), 0, nil},
		{"fragmented ping", f(0x09, ""), 1002, nil},
		{"fragmented pong", f(0x0a, ""), 1002, nil},
		{"fragmented close", f(0x08, "\x03\xe8"), 1002, nil},
		{"unrequested pong", f(pong, "hi"), StaysOpen, nil},
		{"three pings", f(ping, "1") + f(ping, "2") + f(ping, "3"), StaysOpen, []string{"\x8a1", "\x8a2", "\x8a3"}},
	}
}

// closeCases returns the cases of close frames.
func closeCases() []Case {
	return []Case{
		{"close", f(closes, ""), 1005, nil},
		{"close 1000", f(closes, "\x03\xe8"), 1000, nil},
		{"close 1000, with a reason", f(closes, "\x03\xe8bye"), 1000, nil},
		{"close 1001", f(closes, "\x03\xe9"), 1001, nil},
		{"close 3000", f(closes, "\x0b\xb8"), 3000, nil},
		{"close 4999", f(closes, "\x13\x87"), 4999, nil},
		{"close 999", f(closes, "\x03\xe7"), 1002, nil},
		{"close 0", f(closes, "\x00\x00"), 1002, nil},
		{"close 1004", f(closes, "\x03\xec"), 1002, nil},
		{"close 1005", f(closes, "\x03\xed"), 1002, nil},
		{"close 1006", f(closes, "\x03\xee"), 1002, nil},
		{"close 1015", f(closes, "\x03\xf7"), 1002, nil},
		{"close 5000", f(closes, "\x13\x88"), 1002, nil},
		{"close 65535", f(closes, "\xff\xff"), 1002, nil},
		{"close of one byte", f(closes, "\x03"), 1002, nil},
		{"close of 126 bytes", f(closes, "\x03\xe8"+strings.Repeat("x", 124)), 1002, nil},
		{"message after close", f(closes, "\x03\xe8") + f(binaryMsg, hello), 1000, nil},
	}
}

// otherCases returns the cases of bytes that are no WebSocket frames.
func otherCases() []Case {
	return []Case{
		{"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1002, nil},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 1002, nil},
		{"zeros", strings.Repeat("\x00", 4096), 0, nil},
		{"ones", strings.Repeat("\xff", 4096), 0, nil},
	}
}
