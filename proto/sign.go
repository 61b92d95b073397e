package proto

import (
	"crypto/ed25519"
	"fmt"
)

// peerContext precedes the signed bytes of a peer, so that no other signature by
// the same key is accepted for a peer.
const peerContext = "usher node record 1\n"

// SignPeer appends the signature of an encoded peer to it, as its last field. It
// fails with ErrPeer if the result would be longer than MaxPeerBytes.
func SignPeer(b []byte, key ed25519.PrivateKey) ([]byte, error) {
	if n := len(b) + 2 + ed25519.SignatureSize; n > MaxPeerBytes {
		return nil, fmt.Errorf("%w: %d bytes with its signature, more than %d", ErrPeer, n, MaxPeerBytes)
	}
	signature := ed25519.Sign(key, append([]byte(peerContext), b...))
	return append(append(b, tagSignature, ed25519.SignatureSize), signature...), nil
}

// PeerSigned reports whether every byte of an encoded peer is signed with the key.
func PeerSigned(b []byte, key ed25519.PublicKey) bool {
	at := len(b) - 2 - ed25519.SignatureSize
	if at < 0 {
		return false
	}
	last := -1 // where the last field begins
	pos := 1
	err := readRecord(b, func(_ byte, f field) {
		last = pos
		pos += 2 + len(f.b)
	})
	if err != nil || last != at || b[at] != tagSignature {
		return false
	}
	return ed25519.Verify(key, append([]byte(peerContext), b[:at]...), b[at+2:])
}
