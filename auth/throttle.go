package auth

import (
	"container/list"
	"context"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Throttle counts failed logins. It is asked before anything costly is done,
// and told of the outcome. The account is "" for methods without accounts, the
// client the zero Addr when it is not known; neither is counted then. It must
// be safe for concurrent use, and answer soon: a login waits for it.
type Throttle interface {
	// Wait returns how long the client should wait before it tries the account
	// again; 0 when it may try now.
	Wait(ctx context.Context, account string, client netip.Addr) time.Duration
	Failed(ctx context.Context, account string, client netip.Addr)
	Succeeded(ctx context.Context, account string, client netip.Addr)
}

// ThrottleConfig adjusts a throttle. The zero value of a field means its
// default.
type ThrottleConfig struct {
	// AccountBurst failures at one account are free; after them one more every
	// AccountEvery. Defaults 10 and 30 s.
	AccountBurst int
	AccountEvery time.Duration
	// ClientBurst and ClientEvery are the same for one client: an IPv4 address
	// or an IPv6 /64. Defaults 50 and 2 s: many people may share an address.
	ClientBurst int
	ClientEvery time.Duration
	// Size bounds the entries of each table; the ones longest without a
	// failure go first. Default 100,000, about 15 MB when full.
	Size int
	// Shared is what the auths of a cluster know together. Default: each counts
	// for itself.
	Shared Failures
	// SharedTimeout bounds what a login waits for it. Default 300 ms.
	SharedTimeout time.Duration
	Logger        *slog.Logger // default: no logs
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// NewThrottle returns a throttle whose memory is that of this process, and of
// Shared. Only
// failures count: any number of good logins passes. Attempts under way when a
// limit is reached go on, but what they exceed it by is waited for as well.
//
// Whoever has logged in to an account from an address of late is let through
// to it when others have used up the account's failures, so that nobody can
// lock a player out by guessing.
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
		// One failure from there, and the account's count applies to it again.
		friends: newFailures(1, friendFor, c.Size),
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

// friendFor is how long a good login is remembered.
const friendFor = 30 * 24 * time.Hour

type localThrottle struct {
	now  func() time.Time
	seed maphash.Seed

	mu       sync.Mutex
	accounts *failures
	clients  *failures
	friends  *failures // account and client that belong together
}

func (t *localThrottle) Wait(_ context.Context, account string, client netip.Addr) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	wait := t.clients.wait(t.client(client), now)
	if friends := t.friends.wait(t.pair(account, client), now) > 0; !friends {
		wait = max(wait, t.accounts.wait(t.account(account), now))
	}
	return wait
}

func (t *localThrottle) Failed(_ context.Context, account string, client netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.friends.forget(t.pair(account, client))
	t.accounts.add(t.account(account), now)
	t.clients.add(t.client(client), now)
}

func (t *localThrottle) Succeeded(_ context.Context, account string, client netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pair := t.pair(account, client)
	t.friends.forget(pair)
	t.friends.add(pair, t.now())
}

// The keys are hashes with a seed of this process: what the tables hold tells
// nothing and has one size. 0 is for what is not counted.

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
	return maphash.Comparable(t.seed, Network(addr))
}

func (t *localThrottle) pair(account string, addr netip.Addr) uint64 {
	if account == "" || !addr.IsValid() {
		return 0
	}
	return maphash.Comparable(t.seed, struct {
		account string
		network netip.Prefix
	}{account, Network(addr)})
}

// Network is what one customer of a provider is given, and counts as one client: an
// IPv4 address, an IPv6 /64. Of an address that is none it is none.
func Network(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // the length fits an address
	return p
}

// failures counts them by key. Of each it keeps the time at which all are
// forgiven: every failure puts that off by one interval. Not safe for
// concurrent use.
type failures struct {
	every  time.Duration
	burst  time.Duration // in intervals
	size   int
	byKey  map[uint64]*list.Element
	recent *list.List // of forgiveness, the latest counted in front
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
