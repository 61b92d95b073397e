package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/alexedwards/argon2id"
	"golang.org/x/sync/semaphore"
)

// usersInterval is the time between two checks of the users file for changes.
const usersInterval = 2 * time.Second

// queuePerProc is how many logins may wait for each one that is hashed. Together they
// take about 400 ms, so that the last one is still answered in time.
const queuePerProc = 16

// Password verifies users against a file of password hashes. The credentials are
// {"username":"ada","password":"…"}.
//
// A login costs one Argon2id hash, also for a user that does not exist, so that neither
// the answer nor its time reveals which users exist. This is true for hashes with the
// parameters of HashLine: a hash with other parameters takes another time.
//
// At most GOMAXPROCS threads hash at the same time, and a limited number of logins waits.
// Further logins get ErrBusy. Password is safe for concurrent use.
type Password struct {
	path    string
	log     *slog.Logger
	dummy   hashed
	compare func(password, hash string) (bool, error)

	users atomic.Pointer[map[string]hashed]
	read  version // of the file, when Run last read it

	slots   *semaphore.Weighted
	waiting atomic.Int64
	queue   int64
}

// OpenPassword reads the users file. While Run runs, it reads the file again after each
// change.
func OpenPassword(path string, log *slog.Logger) (*Password, error) {
	procs := int64(runtime.GOMAXPROCS(0))
	p := &Password{
		path: path, log: log, compare: argon2id.ComparePasswordAndHash,
		slots: semaphore.NewWeighted(procs), queue: procs * queuePerProc,
	}
	var err error
	if p.dummy, err = dummyHash(); err != nil {
		return nil, err
	}
	users, read, err := readUsers(path, log)
	if err != nil {
		return nil, err
	}
	p.users.Store(&users)
	p.read = read
	return p, nil
}

// Account returns the user name.
func (p *Password) Account(credentials json.RawMessage) string {
	user, _, err := readPassword(credentials)
	if err != nil {
		return ""
	}
	return user
}

// Verify compares the password with the user's hash. It returns ErrBusy if ctx ends before
// it can begin to hash.
func (p *Password) Verify(ctx context.Context, credentials json.RawMessage) (Identity, error) {
	user, password, err := readPassword(credentials)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	known, exists := (*p.users.Load())[user]
	if !exists {
		known = p.dummy
	}
	if err := p.acquire(ctx, known.threads); err != nil {
		return Identity{}, err
	}
	defer p.slots.Release(known.threads)
	match, err := p.compare(password, known.text)
	if err != nil {
		return Identity{}, fmt.Errorf("comparing a password: %w", err)
	}
	if !match || !exists {
		return Identity{}, ErrInvalidCredentials
	}
	return Identity{User: user}, nil
}

// acquire waits until the given number of threads is free to hash.
func (p *Password) acquire(ctx context.Context, threads int64) error {
	if p.slots.TryAcquire(threads) {
		return nil
	}
	defer p.waiting.Add(-1)
	if p.waiting.Add(1) > p.queue {
		return ErrBusy
	}
	if err := p.slots.Acquire(ctx, threads); err != nil {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return nil
}

func readPassword(credentials json.RawMessage) (user, password string, err error) {
	if len(credentials) == 0 {
		return "", "", errors.New("username and password are missing")
	}
	o, err := rules.Parse(credentials)
	if err != nil {
		return "", "", err
	}
	user, password = o.OptionalString("username"), o.OptionalString("password")
	if err := o.Err(); err != nil {
		return "", "", err
	}
	if err := CheckName(user); err != nil {
		return "", "", fmt.Errorf("username %w", err)
	}
	return user, password, checkPassword(password)
}

// Run reads the users file again after each change, until ctx ends. If the file cannot be
// read or is invalid, Run logs that and keeps the users as they were.
func (p *Password) Run(ctx context.Context) {
	tick := time.NewTicker(usersInterval)
	defer tick.Stop()
	var logged string // the last error, so that a lasting one is logged once
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := p.reload()
		switch {
		case err != nil && err.Error() != logged:
			logged = err.Error()
			p.log.Error("users file not read; the previous users stay in use", "error", err)
		case err == nil:
			logged = ""
		}
		if changed {
			p.log.Info("users read", "file", p.path, "users", len(*p.users.Load()))
		}
	}
}

func (p *Password) reload() (changed bool, err error) {
	info, err := os.Stat(p.path)
	if err != nil {
		p.read = version{} // the next file is read in any case
		return false, err
	}
	if p.read.same(info) {
		return false, nil
	}
	users, read, err := readUsers(p.path, p.log)
	if err != nil {
		return false, err // Run tries again: another process may be writing the file
	}
	p.read = read
	p.users.Store(&users)
	return true, nil
}
