package proto_test

import (
	"bytes"
	"testing"

	"github.com/usher-broker/usher/proto"
)

func BenchmarkAppendMessage(b *testing.B) {
	m := proto.Message{Data: bytes.Repeat([]byte("x"), 128), Text: true}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = proto.AppendMessage(buf[:0], m)
	}
}

func BenchmarkParseMessage(b *testing.B) {
	frame := proto.AppendMessage(nil, proto.Message{Data: bytes.Repeat([]byte("x"), 128), Text: true})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := proto.ParseMessage(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendAck(b *testing.B) {
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = proto.AppendControl(buf[:0], proto.Control{Type: proto.TypeAck, Received: 123456})
	}
}

func BenchmarkParseAck(b *testing.B) {
	text := []byte(`{"type":"ack","received":123456}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := proto.ParseControl(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPeer(b *testing.B) {
	buf := make([]byte, 0, proto.MaxPeerBytes)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = proto.AppendPeer(buf[:0], aPeer); err != nil {
			b.Fatal(err)
		}
		if _, err = proto.ParsePeer(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReport(b *testing.B) {
	buf := make([]byte, 0, proto.MaxPeerBytes)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = proto.AppendReport(buf[:0], aReport); err != nil {
			b.Fatal(err)
		}
		if _, err = proto.ParseReport(buf); err != nil {
			b.Fatal(err)
		}
	}
}
