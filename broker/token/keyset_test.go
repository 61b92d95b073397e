package token

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/proto"
)

// claimsNow returns claims that are valid now, by the clock of the machine.
func claimsNow() proto.Claims {
	c := goodClaims()
	now := time.Now().Unix()
	c.IssuedAt, c.NotBefore, c.Expires = now, now, now+3600
	return c
}

// kidOf returns the id of the key with which k signs.
func kidOf(t *testing.T, k *KeySet) string {
	t.Helper()
	raw, err := k.Sign(claimsNow())
	if err != nil {
		t.Fatal(err)
	}
	kid, err := readHeader(raw, proto.TokenType)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&Verifier{Keys: k}).Verify(t.Context(), raw); err != nil {
		t.Fatalf("its own token: %v", err)
	}
	return kid
}

func TestSignedTokensVerify(t *testing.T) {
	k, err := NewKeySet()
	if err != nil {
		t.Fatal(err)
	}
	c := claimsNow()
	c.User = "Ada <&> \u2028 é"
	c.Ext = json.RawMessage(`{"html":"` + strings.Repeat("<", 1000) + `"}`)
	raw, err := k.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := (&Verifier{Keys: k}).Verify(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, c) {
		t.Errorf("claims are %+v, signed %+v", got, c)
	}
}

func TestSignRefusesClaimsThatNoVerifierAccepts(t *testing.T) {
	k, err := NewKeySet()
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*proto.Claims){
		"no user":         func(c *proto.Claims) { c.User = "" },
		"no session":      func(c *proto.Claims) { c.Session = "" },
		"no epoch":        func(c *proto.Claims) { c.Epoch = 0 },
		"long user":       func(c *proto.Claims) { c.User = longName(129) },
		"control":         func(c *proto.Claims) { c.User = "a\x1b[2J" },
		"audience":        func(c *proto.Claims) { c.Audience = "" },
		"ext broken":      func(c *proto.Claims) { c.Ext = json.RawMessage(`{"a":`) },
		"ext too long":    func(c *proto.Claims) { c.Ext = json.RawMessage(`"` + longName(1024) + `"`) },
		"ext not UTF-8":   func(c *proto.Claims) { c.Ext = json.RawMessage("\"\xff\"") },
		"time after 9999": func(c *proto.Claims) { c.Expires = 1 << 60 },
		"negative time":   func(c *proto.Claims) { c.IssuedAt = -5 },
	} {
		c := claimsNow()
		spoil(&c)
		if _, err := k.Sign(c); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPublishedKeysHaveNoPrivatePart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	for add := range 2 {
		if _, err := GenerateFile(path, add == 1); err != nil {
			t.Fatal(err)
		}
	}
	k, err := OpenKeySet(path, 0, quiet())
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(k.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 2 {
		t.Fatalf("%d keys published", len(set.Keys))
	}
	for _, key := range set.Keys {
		if key["d"] != nil || key["kty"] != "OKP" || key["crv"] != "Ed25519" || key["alg"] != "EdDSA" || key["use"] != "sig" {
			t.Errorf("published: %v", key)
		}
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const overlap = 10 * time.Minute
		path := filepath.Join(dir, "keys")
		first, err := GenerateFile(path, false)
		if err != nil {
			t.Fatal(err)
		}
		k, err := OpenKeySet(path, overlap, quiet())
		if err != nil {
			t.Fatal(err)
		}
		defer runUntilStop(k.Run)()
		if got := kidOf(t, k); got != first {
			t.Fatalf("%s signs, not the only key", got)
		}
		old, err := k.Sign(claimsNow())
		if err != nil {
			t.Fatal(err)
		}

		second, err := GenerateFile(path, true)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(fileInterval)
		synctest.Wait()
		if _, err := k.PublicKey(t.Context(), second); err != nil || !bytes.Contains(k.JWKS(), []byte(second)) {
			t.Errorf("the new key is not published at once: %v", err)
		}
		if got := kidOf(t, k); got != first {
			t.Errorf("%s signs while both keys are new, want the older one", got)
		}
		time.Sleep(overlap - 2*fileInterval)
		if got := kidOf(t, k); got != first {
			t.Errorf("the new key signs before the overlap is over")
		}
		time.Sleep(2 * fileInterval)
		if got := kidOf(t, k); got != second {
			t.Errorf("the new key does not sign after the overlap")
		}
		if _, err := (&Verifier{Keys: k}).Verify(t.Context(), old); err != nil {
			t.Errorf("a token of the old key: %v", err)
		}
		if _, err := GenerateFile(path, true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(fileInterval)
		synctest.Wait()
		if got := kidOf(t, k); got != second {
			t.Errorf("%s signs after a third key was added", got)
		}
	})
}

func TestBrokenFileKeepsTheOldKeys(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		path := filepath.Join(dir, "keys")
		kid, err := GenerateFile(path, false)
		if err != nil {
			t.Fatal(err)
		}
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		k, err := OpenKeySet(path, 0, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		defer runUntilStop(k.Run)()

		lines := 0
		expect := func(what string) {
			t.Helper()
			time.Sleep(5 * fileInterval)
			synctest.Wait()
			if got := kidOf(t, k); got != kid {
				t.Errorf("%s: %s signs", what, got)
			}
			if got := strings.Count(log.String(), "\n"); got != lines+1 {
				t.Errorf("%s: logged %d lines in all, want %d:\n%s", what, got, lines+1, &log)
			}
			lines++
		}
		write := func(b []byte, mode os.FileMode) {
			t.Helper()
			if err := errors.Join(os.WriteFile(path, b, 0o600), os.Chmod(path, mode)); err != nil {
				t.Fatal(err)
			}
		}
		write(good[:len(good)/2], 0o600)
		expect("cut short")
		write([]byte(`{"keys":[]}`), 0o600)
		expect("empty")
		write(good, 0o644)
		expect("open to others")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		expect("gone")
		var secret struct{ Keys []struct{ D string } }
		if err := json.Unmarshal(good, &secret); err != nil || secret.Keys[0].D == "" {
			t.Fatal(err)
		}
		if strings.Contains(log.String(), secret.Keys[0].D[:20]) {
			t.Error("the private key is in the log")
		}
		next, err := GenerateFile(path, false)
		if err != nil {
			t.Fatal(err)
		}
		kid = next
		expect("a good file again")
	})
}

func TestGenerateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if _, err := GenerateFile(path, true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("adding to no file: %v", err)
	}
	if _, err := GenerateFile(path, false); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v (%v)", info.Mode(), err)
	}
	if _, err := GenerateFile(path, false); !errors.Is(err, os.ErrExist) {
		t.Errorf("overwriting: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Error("the file changed")
	}
	if _, err := GenerateFile(path, true); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode after adding is %v (%v)", info.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("files left: %v (%v)", left, err)
	}
}

func TestOpenKeySetRefuses(t *testing.T) {
	mine, other := newJWK(pair(1), atMoment()), newJWK(pair(2), atMoment())
	set := func(list ...jwk) string {
		b, err := encodeSet(list...)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	edit := func(f func(*jwk)) jwk { k := mine; f(&k); return k }
	for name, c := range map[string]struct {
		file string
		mode os.FileMode
		want string
	}{
		"readable by the group": {set(mine), 0o640, "chmod 600"},
		"readable by all":       {set(mine), 0o604, "chmod 600"},
		"empty":                 {"", 0o600, "not a JWK Set"},
		"not JSON":              {"-----BEGIN PRIVATE KEY-----", 0o600, "not a JWK Set"},
		"no keys":               {`{"keys":[]}`, 0o600, "no Ed25519 key"},
		"another kind":          {`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}`, 0o600, "no Ed25519 key"},
		"public only":           {set(edit(func(k *jwk) { k.D = "" })), 0o600, "no private part"},
		"mismatched":            {set(edit(func(k *jwk) { k.D = other.D })), 0o600, "does not belong"},
		"no kid":                {set(edit(func(k *jwk) { k.ID = "" })), 0o600, "kid"},
		"same kid twice":        {set(mine, edit(func(k *jwk) { k.X, k.D = other.X, other.D })), 0o600, "twice"},
		"x too short":           {set(edit(func(k *jwk) { k.X = k.X[:40] })), 0o600, "x: "},
		"d of 64 bytes":         {set(edit(func(k *jwk) { k.D = b64(string(pair(1))) })), 0o600, "d: "},
		"one good, one bad":     {set(mine, edit(func(k *jwk) { k.ID, k.D = "b", "!" })), 0o600, "d: "},
		"too large":             {set(mine) + strings.Repeat(" ", maxSetBytes), 0o600, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys")
			if err := errors.Join(os.WriteFile(path, []byte(c.file), 0o600), os.Chmod(path, c.mode)); err != nil {
				t.Fatal(err)
			}
			_, err := OpenKeySet(path, 0, quiet())
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("error is %v", err)
			}
			if strings.Contains(err.Error(), mine.D) || strings.Contains(err.Error(), other.D) {
				t.Errorf("the error contains the private key: %v", err)
			}
		})
	}
}

func TestThumbprint(t *testing.T) {
	// The example of RFC 8037, appendix A.3.
	seed, err := decodeKey("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", ed25519.SeedSize)
	if err != nil {
		t.Fatal(err)
	}
	if k := newJWK(ed25519.NewKeyFromSeed(seed), time.Now()); k.ID != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Errorf("kid is %s", k.ID)
	}
}

func runUntilStop(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	return func() { cancel(); <-done }
}
