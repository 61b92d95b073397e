package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
)

const keyBytes = 32

// checkKeys checks the lengths of the keys. No key at all is allowed.
func checkKeys(key []byte, others [][]byte) error {
	if key == nil && others == nil {
		return nil
	}
	for _, k := range append([][]byte{key}, others...) {
		if len(k) != keyBytes {
			return fmt.Errorf("cluster: a key has %d bytes, must have %d", len(k), keyBytes)
		}
	}
	return nil
}

// SetKeys makes this member encrypt with key, and decrypt with it and with the
// others. To change the key without losing a message: first add the new key to
// the others on every member, then encrypt with it, then remove the old one.
func (c *Cluster) SetKeys(key []byte, others [][]byte) error {
	if c.ring == nil {
		return errors.New("cluster: a member that joined without a key cannot get one; restart it with a key")
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
