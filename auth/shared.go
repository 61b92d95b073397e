package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/usher-broker/usher/broker/httpapi"
)

// Failures counts failed logins for all auths of a cluster together; redis.Store
// implements it. Keys are hashes in hexadecimal. Implementations must be safe for
// concurrent use.
type Failures interface {
	// Forgiven returns for each key the time until all its failures are forgiven.
	Forgiven(ctx context.Context, keys []string) ([]time.Duration, error)
	// Fail counts a failure. It is forgiven one interval of the given length after all
	// earlier ones.
	Fail(ctx context.Context, key string, every time.Duration) error
	// Forgive forgives all failures.
	Forgive(ctx context.Context, key string) error
}

// sharedKnownFor is how long all auths remember a successful login of a client to an account.
const sharedKnownFor = 7 * 24 * time.Hour

// sharedThrottle counts failures together with the other auths, so that n auths do not
// give a guesser n times as many tries. While the store does not answer, each auth counts
// on its own.
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
	left, err := t.forgiven(ctx, clientKey(client), accountKey(account), knownKey(account, client))
	if err != nil {
		t.log.Warn("failed logins are counted by this auth only, because the session store did not answer", "error", err)
		return 0
	}
	ofClient, ofAccount, known := left[0]-t.clients.burst, left[1]-t.accounts.burst, left[2] > 0
	if known {
		ofAccount = 0
	}
	return max(0, ofClient, ofAccount)
}

// forgiven returns for each key the time until all its failures are forgiven, 0 for
// the key "". It does not call the store if all keys are "".
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
	ctx, cancel := t.detached(ctx)
	defer cancel()
	for key, every := range map[string]time.Duration{clientKey(client): t.clients.every, accountKey(account): t.accounts.every} {
		if key != "" {
			t.logError(t.shared.Fail(ctx, key, every))
		}
	}
	if key := knownKey(account, client); key != "" {
		t.logError(t.shared.Forgive(ctx, key))
	}
}

func (t *sharedThrottle) Succeeded(ctx context.Context, account string, client netip.Addr) {
	t.localThrottle.Succeeded(ctx, account, client)
	key := knownKey(account, client)
	if key == "" {
		return
	}
	ctx, cancel := t.detached(ctx)
	defer cancel()
	// Forgive first: the key holds at most one interval.
	t.logError(t.shared.Forgive(ctx, key))
	t.logError(t.shared.Fail(ctx, key, sharedKnownFor))
}

// detached returns a context that does not end with the request, so that a failure also
// counts if the client closes the connection.
func (t *sharedThrottle) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), t.timeout)
}

// logError logs that the store did not count a login.
func (t *sharedThrottle) logError(err error) {
	if err != nil {
		t.log.Warn("a login was counted by this auth only, because the session store did not answer", "error", err)
	}
}

// The keys of the shared counters are hashes. The account and the address cannot be read
// from them, but an address can be found by trying all of them, so the keys are sent to the
// store only. The key "" means that nothing is counted.

func clientKey(client netip.Addr) string {
	if !client.IsValid() {
		return ""
	}
	return hashed("client", httpapi.ClientNetwork(client).String())
}

func accountKey(account string) string {
	if account == "" {
		return ""
	}
	return hashed("account", account)
}

func knownKey(account string, client netip.Addr) string {
	if account == "" || !client.IsValid() {
		return ""
	}
	return hashed("friend", account+"\n"+httpapi.ClientNetwork(client).String())
}

func hashed(kind, text string) string {
	sum := sha256.Sum256([]byte(kind + "\n" + text))
	return hex.EncodeToString(sum[:16])
}
