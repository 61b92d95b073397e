package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
)

const keyBytes = 32

// checkKeys allows no keys, or such as there can be.
func checkKeys(key []byte, others [][]byte) error {
	if key == nil && others == nil {
		return nil
	}
	for _, k := range append([][]byte{key}, others...) {
		if len(k) != keyBytes {
			return fmt.Errorf("cluster: the key has %d bytes, want %d", len(k), keyBytes)
		}
	}
	return nil
}

// SetKeys has this member send by key, and understand what was sent by it or by
// one of the others. To go over to a new key, have every member understand it
// first, then send by it, and then forget the old one; no message is lost.
func (c *Cluster) SetKeys(key []byte, others [][]byte) error {
	if c.ring == nil {
		return errors.New("cluster: it was joined without a key, and cannot take one now")
	}
	if err := checkKeys(key, others); err != nil {
		return err
	}
	wanted := append([][]byte{key}, others...)
	for _, k := range wanted {
		if err := c.ring.AddKey(k); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
	if err := c.ring.UseKey(key); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	for _, k := range c.ring.GetKeys() {
		if !slices.ContainsFunc(wanted, func(w []byte) bool { return bytes.Equal(w, k) }) {
			if err := c.ring.RemoveKey(k); err != nil {
				return fmt.Errorf("cluster: %w", err)
			}
		}
	}
	return nil
}

func (c *Cluster) keyring() (*memberlist.Keyring, error) {
	if len(c.cfg.Key) == 0 {
		return nil, nil
	}
	return memberlist.NewKeyring(c.cfg.OldKeys, c.cfg.Key)
}
