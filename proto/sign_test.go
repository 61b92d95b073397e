package proto

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
)

func TestSignPeer(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	public := key.Public().(ed25519.PublicKey)
	p := Peer{ID: "node-7", Role: RoleNode, URL: "wss://node-7.example.com/v1/connect", Generation: 5, Issued: 1_800_000_000}
	plain, err := AppendPeer(nil, p)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := SignPeer(bytes.Clone(plain), key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParsePeer(signed); err != nil || got != p {
		t.Errorf("parsed as %+v, %v", got, err)
	}
	if !PeerSigned(signed, public) {
		t.Error("the peer's own signature is refused")
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "not signed": plain, "signature alone": signed[len(plain):],
		"twice":           append(bytes.Clone(signed), signed[len(plain):]...),
		"a field after":   append(bytes.Clone(signed), tagLive, 1, 1),
		"a field before":  append(append(bytes.Clone(plain), tagLive, 1, 1), signed[len(plain):]...),
		"one bit":         flipped(signed, len(plain)/2),
		"signature's bit": flipped(signed, len(signed)-1),
		"inside a text":   append(bytes.Clone(plain), append([]byte{tagVersion, 66}, signed[len(plain):]...)...),
	} {
		if PeerSigned(b, public) {
			t.Errorf("%s: accepted as signed", name)
		}
	}
	if PeerSigned(signed, other.Public().(ed25519.PublicKey)) {
		t.Error("accepted as signed by another key")
	}
	p.URL, p.Region, p.Pool = "wss://"+strings.Repeat("a", 240), strings.Repeat("r", 200), ""
	if plain, err = AppendPeer(nil, p); err != nil {
		t.Fatal(err)
	}
	if _, err := SignPeer(plain, key); !errors.Is(err, ErrPeer) {
		t.Errorf("%d bytes with a signature: %v", len(plain), err)
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func FuzzPeerSigned(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	plain, err := AppendPeer(nil, Peer{ID: "a", Role: RoleNode})
	if err != nil {
		f.Fatal(err)
	}
	signed, err := SignPeer(bytes.Clone(plain), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add(signed)
	f.Fuzz(func(t *testing.T, b []byte) {
		if PeerSigned(b, key.Public().(ed25519.PublicKey)) && !bytes.Equal(b, signed) {
			t.Errorf("%x is signed", b)
		}
	})
}
