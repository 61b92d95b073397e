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

	"github.com/usher-broker/usher/auth/internal/strictjson"
)

// usersInterval is how often the users file is looked at for changes.
const usersInterval = 2 * time.Second

// queuePerProc is how many logins may wait for each that is hashed: about
// 400 ms of them, so that one in the queue is still answered in time.
const queuePerProc = 16

// Password knows users by a file of password hashes: credentials
// {"username":"ada","password":"…"}.
//
// A login costs one Argon2id hash, also for a user that does not exist, so
// that neither answer nor time tells who does. That holds for hashes with the
// parameters that HashLine gives them: a user whose line has others is as
// cheap or costly as that line says, and stands out by it.
//
// At most GOMAXPROCS threads hash at a time, and a bounded queue waits;
// whoever comes beyond that gets ErrBusy. It is safe for concurrent use.
type Password struct {
	path    string
	log     *slog.Logger
	dummy   hashed
	compare func(password, hash string) (bool, error)

	users atomic.Pointer[map[string]hashed]
	read  version // what Run has read last

	slots   *semaphore.Weighted
	waiting atomic.Int64
	queue   int64
}

// OpenPassword reads the users file. While Run runs, it is read again when it
// changes.
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

// Verify compares the password with the user's hash. When ctx ends before the
// hash is begun it returns ErrBusy.
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

// acquire waits for a turn to hash, which takes the given number of threads.
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
	fields, err := strictjson.Read(credentials)
	if err != nil {
		return "", "", err
	}
	if user, err = fields.Text("username"); err != nil {
		return "", "", err
	}
	if password, err = fields.Text("password"); err != nil {
		return "", "", err
	}
	if err := CheckName(user); err != nil {
		return "", "", fmt.Errorf("username %w", err)
	}
	return user, password, checkPassword(password)
}

// Run follows the changes of the users file until ctx ends. A file that cannot
// be read or makes no sense is logged, and the users stay as they were.
func (p *Password) Run(ctx context.Context) {
	tick := time.NewTicker(usersInterval)
	defer tick.Stop()
	var told string // of a fault that lasts, one line
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := p.reload()
		switch {
		case err != nil && err.Error() != told:
			told = err.Error()
			p.log.Error("users not read; the old ones stay in use", "error", err)
		case err == nil:
			told = ""
		}
		if changed {
			p.log.Info("users read", "file", p.path, "users", len(*p.users.Load()))
		}
	}
}

func (p *Password) reload() (changed bool, err error) {
	info, err := os.Stat(p.path)
	if err != nil {
		p.read = version{} // whatever comes back is read
		return false, err
	}
	if p.read.same(info) {
		return false, nil
	}
	users, read, err := readUsers(p.path, p.log)
	if err != nil {
		return false, err // and tried again: it may be in the middle of being written
	}
	p.read = read
	p.users.Store(&users)
	return true, nil
}
