package auth

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/httpapi"
)

// Throttle counts failed logins. Server calls Wait before it verifies credentials, and
// Failed or Succeeded afterwards. The account is "" for methods without accounts, and the
// client is the zero Addr if its address is unknown; these are not counted.
// Implementations must be safe for concurrent use, and fast, because the login waits for
// them.
type Throttle interface {
	// Wait returns how long the client should wait before it tries the account
	// again; 0 when it may try now.
	Wait(ctx context.Context, account string, client netip.Addr) time.Duration
	Failed(ctx context.Context, account string, client netip.Addr)
	Succeeded(ctx context.Context, account string, client netip.Addr)
}

// ThrottleConfig configures a throttle. A field with its zero value has its default.
type ThrottleConfig struct {
	// AccountBurst is how many logins to one account may fail without a wait.
	// After that, one more may fail every AccountEvery. Defaults: 10 and 30 s.
	AccountBurst int
	AccountEvery time.Duration
	// ClientBurst and ClientEvery are the same for one client, which is an IPv4
	// address or an IPv6 /64. Defaults: 50 and 2 s, because many people may share an
	// address.
	ClientBurst int
	ClientEvery time.Duration
	// Size limits the entries of each table. A full table drops the entry whose last
	// failure is the oldest. Default: 100,000, about 15 MB.
	Size int
	// Shared counts failures for all auths of the cluster together. Default: each
	// auth counts on its own.
	Shared Failures
	// SharedTimeout limits how long a login waits for Shared. Default: 300 ms.
	SharedTimeout time.Duration
	Logger        *slog.Logger // default: no logs
	// Now returns the time. Default: time.Now.
	Now func() time.Time
}

// NewThrottle returns a throttle that counts in the memory of this process, and in
// Shared. Only failed logins count. Logins that are being verified when a limit is
// reached continue, but the failures by which they exceed it lengthen the wait.
//
// A client that has logged in to an account before is not affected by the failures of
// other clients at that account, so that guessing cannot lock a player out.
func NewThrottle(c ThrottleConfig) Throttle {
	orDefault(&c.AccountBurst, 10)
	orDefault(&c.AccountEvery, 30*time.Second)
	orDefault(&c.ClientBurst, 50)
	orDefault(&c.ClientEvery, 2*time.Second)
	orDefault(&c.Size, 100_000)
	if c.Now == nil {
		c.Now = time.Now
	}
	local := &localThrottle{
		now:      c.Now,
		seed:     maphash.MakeSeed(),
		accounts: newFailures(c.AccountBurst, c.AccountEvery, c.Size),
		clients:  newFailures(c.ClientBurst, c.ClientEvery, c.Size),
		// After one failed login, the failures at the account apply to the client again.
		known: newFailures(1, knownFor, c.Size),
	}
	if c.Shared == nil {
		return local
	}
	orDefault(&c.SharedTimeout, 300*time.Millisecond)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &sharedThrottle{local, c.Shared, c.SharedTimeout, c.Logger}
}

func orDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// knownFor is how long a successful login of a client to an account is remembered.
const knownFor = 30 * 24 * time.Hour

type localThrottle struct {
	now  func() time.Time
	seed maphash.Seed

	mu       sync.Mutex
	accounts *failures
	clients  *failures
	known    *failures // clients that have logged in to an account, by both
}

func (t *localThrottle) Wait(_ context.Context, account string, client netip.Addr) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	wait := t.clients.wait(t.client(client), now)
	if known := t.known.wait(t.pair(account, client), now) > 0; !known {
		wait = max(wait, t.accounts.wait(t.account(account), now))
	}
	return wait
}

func (t *localThrottle) Failed(_ context.Context, account string, client netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.known.forget(t.pair(account, client))
	t.accounts.add(t.account(account), now)
	t.clients.add(t.client(client), now)
}

func (t *localThrottle) Succeeded(_ context.Context, account string, client netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pair := t.pair(account, client)
	t.known.forget(pair)
	t.known.add(pair, t.now())
}

// The keys are hashes with a random seed of this process, so that the tables do not
// contain names or addresses and all keys have the same size. The key 0 means that nothing
// is counted.

func (t *localThrottle) account(name string) uint64 {
	if name == "" {
		return 0
	}
	return maphash.String(t.seed, name)
}

func (t *localThrottle) client(addr netip.Addr) uint64 {
	if !addr.IsValid() {
		return 0
	}
	return maphash.Comparable(t.seed, httpapi.ClientNetwork(addr))
}

func (t *localThrottle) pair(account string, addr netip.Addr) uint64 {
	if account == "" || !addr.IsValid() {
		return 0
	}
	return maphash.Comparable(t.seed, struct {
		account string
		network netip.Prefix
	}{account, httpapi.ClientNetwork(addr)})
}

// failures counts failed logins by key. For each key it stores the time at which all are
// forgiven. Each failure delays that time by one interval. It is not safe for
// concurrent use.
type failures struct {
	every  time.Duration
	burst  time.Duration // in intervals
	size   int
	byKey  map[uint64]*list.Element
	recent *list.List // of forgiveness values, the most recent failure first
}

type forgiveness struct {
	key uint64
	at  time.Time
}

func newFailures(burst int, every time.Duration, size int) *failures {
	return &failures{
		every: every, burst: time.Duration(burst-1) * every, size: size,
		byKey: make(map[uint64]*list.Element), recent: list.New(),
	}
}

// wait returns the time until one more failure is allowed.
func (f *failures) wait(key uint64, now time.Time) time.Duration {
	e := f.byKey[key]
	if e == nil {
		return 0
	}
	return max(0, e.Value.(forgiveness).at.Sub(now)-f.burst)
}

func (f *failures) add(key uint64, now time.Time) {
	if key == 0 {
		return
	}
	e := f.byKey[key]
	if e == nil {
		if len(f.byKey) >= f.size {
			oldest := f.recent.Back()
			delete(f.byKey, f.recent.Remove(oldest).(forgiveness).key)
		}
		f.byKey[key] = f.recent.PushFront(forgiveness{key, now.Add(f.every)})
		return
	}
	at := e.Value.(forgiveness).at
	if at.Before(now) {
		at = now
	}
	e.Value = forgiveness{key, at.Add(f.every)}
	f.recent.MoveToFront(e)
}

func (f *failures) forget(key uint64) {
	if e := f.byKey[key]; e != nil {
		f.recent.Remove(e)
		delete(f.byKey, key)
	}
}

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
