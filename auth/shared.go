package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// Failures is what the auths of a cluster know together of failed logins:
// redis.Store is one. Keys are hashes in hexadecimal. It must be safe for
// concurrent use.
type Failures interface {
	// Forgiven returns for each key the time until all its failures are forgiven.
	Forgiven(ctx context.Context, keys []string) ([]time.Duration, error)
	// Fail counts a failure: it is forgiven, after all before, in the time given.
	Fail(ctx context.Context, key string, every time.Duration) error
	// Forgive forgives all failures.
	Forgive(ctx context.Context, key string) error
}

// sharedFriendFor is how long all auths remember a good login.
const sharedFriendFor = 7 * 24 * time.Hour

// sharedThrottle counts with the other auths: with n of them a guesser does not
// have n times as many tries. While the store is away each counts for itself.
type sharedThrottle struct {
	*localThrottle
	shared  Failures
	timeout time.Duration
	log     *slog.Logger
}

func (t *sharedThrottle) Wait(ctx context.Context, account string, client netip.Addr) time.Duration {
	if wait := t.localThrottle.Wait(ctx, account, client); wait > 0 {
		return wait
	}
	left, err := t.forgiven(ctx, clientKey(client), accountKey(account), friendKey(account, client))
	if err != nil {
		t.log.Warn("failed logins are counted by this auth alone", "error", err)
		return 0
	}
	ofClient, ofAccount, friend := left[0]-t.clients.burst, left[1]-t.accounts.burst, left[2] > 0
	if friend {
		ofAccount = 0
	}
	return max(0, ofClient, ofAccount)
}

// forgiven returns for each key the time until all its failures are forgiven, 0 for
// a key of "". The store is not asked about nothing.
func (t *sharedThrottle) forgiven(ctx context.Context, keys ...string) ([]time.Duration, error) {
	counted := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return key == "" })
	all := make([]time.Duration, len(keys))
	if len(counted) == 0 {
		return all, nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	left, err := t.shared.Forgiven(ctx, counted)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if key != "" {
			all[i], left = left[0], left[1:]
		}
	}
	return all, nil
}

func (t *sharedThrottle) Failed(ctx context.Context, account string, client netip.Addr) {
	t.localThrottle.Failed(ctx, account, client)
	ctx, cancel := t.own(ctx)
	defer cancel()
	for key, every := range map[string]time.Duration{clientKey(client): t.clients.every, accountKey(account): t.accounts.every} {
		if key != "" {
			t.tell(t.shared.Fail(ctx, key, every))
		}
	}
	if key := friendKey(account, client); key != "" {
		t.tell(t.shared.Forgive(ctx, key))
	}
}

func (t *sharedThrottle) Succeeded(ctx context.Context, account string, client netip.Addr) {
	t.localThrottle.Succeeded(ctx, account, client)
	key := friendKey(account, client)
	if key == "" {
		return
	}
	ctx, cancel := t.own(ctx)
	defer cancel()
	// One who failed in between is no friend: the key holds no more than one.
	t.tell(t.shared.Forgive(ctx, key))
	t.tell(t.shared.Fail(ctx, key, sharedFriendFor))
}

// own returns a context that outlives the request: a client that hangs up is
// counted as well.
func (t *sharedThrottle) own(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), t.timeout)
}

func (t *sharedThrottle) tell(err error) {
	if err != nil {
		t.log.Warn("a login was counted by this auth alone", "error", err)
	}
}

// Keys of the shared view. What they are made of cannot be read from them, but an
// address can be guessed: they are for the store alone. "" is for what is not
// counted.

func clientKey(client netip.Addr) string {
	if !client.IsValid() {
		return ""
	}
	return hashed("client", Network(client).String())
}

func accountKey(account string) string {
	if account == "" {
		return ""
	}
	return hashed("account", account)
}

func friendKey(account string, client netip.Addr) string {
	if account == "" || !client.IsValid() {
		return ""
	}
	return hashed("friend", account+"\n"+Network(client).String())
}

func hashed(kind, text string) string {
	sum := sha256.Sum256([]byte(kind + "\n" + text))
	return hex.EncodeToString(sum[:16])
}
