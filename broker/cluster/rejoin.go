package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

const (
	lookupTimeout = 3 * time.Second
	// fastRejoin is the interval while this member is alone, and for lostTime after a
	// live member had an address to join through: that member may be restarting, and
	// without seeds of its own it waits for this one.
	fastRejoin = time.Second
	lostTime   = time.Minute
	// reachedRejoin is the pause, in rejoin intervals, after a join through an
	// address that is not the one its member advertises. Every attempt exchanges
	// the states of all members.
	reachedRejoin = 6
)

// seed is an address to join through.
type seed struct{ host, port string }

func parseSeeds(join []string) ([]seed, error) {
	var seeds []seed
	for _, s := range join {
		host, port, err := net.SplitHostPort(s)
		if err == nil && host == "" {
			err = errors.New("host is missing")
		}
		if err == nil {
			var n uint64
			if n, err = strconv.ParseUint(port, 10, 16); err == nil && n == 0 {
				err = errors.New("port must not be 0")
			}
		}
		if err != nil {
			return nil, fmt.Errorf("cluster: join %q: must be host:port: %w", s, err)
		}
		seeds = append(seeds, seed{host, port})
	}
	return seeds, nil
}

// addrs resolves the seed.
func (r *rejoiner) addrs(s seed) ([]string, error) {
	ctx, cancel := context.WithTimeout(r.c.ctx, lookupTimeout)
	defer cancel()
	ips, err := r.lookup(ctx, s.host)
	addrs := make([]string, len(ips))
	for i, ip := range ips {
		addrs[i] = net.JoinHostPort(ip, s.port)
	}
	return addrs, err
}

// keepJoined tries the seeds repeatedly. Otherwise a member that reached only
// itself would stay alone, and two parts of a split cluster would stay apart.
func (c *Cluster) keepJoined(seeds []seed) {
	r := rejoiner{c: c, seeds: seeds, lookup: net.DefaultResolver.LookupHost}
	for {
		r.round(time.Now())
		if c.contested.Swap(false) {
			// The other member may be a dead earlier start of this one: announce
			// the current address again.
			c.announce()
		}
		pause := c.cfg.Rejoin
		if c.alone() || r.lost {
			pause = min(pause, fastRejoin)
		}
		// Jitter keeps members that start together from joining at the same
		// moments.
		timer := time.NewTimer(time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64())))
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (c *Cluster) alone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.members) <= 1
}

// memberAt reports whether a live member, this one included, has the address.
func (c *Cluster) memberAt(addr string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		if m.node.Address() == addr {
			return true
		}
	}
	return false
}

type rejoiner struct {
	c      *Cluster
	seeds  []seed
	lookup func(ctx context.Context, host string) ([]string, error)
	pause  map[string]time.Time // end of the pause, by address
	live   map[string]time.Time // when a live member last had the address, by address; for lostTime
	lost   bool                 // no live member has one of these addresses now
	warn   bool                 // the warning that this member is alone was logged
}

// round tries every address of every seed, except the addresses of live members
// and those with a pause.
func (r *rejoiner) round(now time.Time) {
	var errs []error
	pause, live, lost := map[string]time.Time{}, map[string]time.Time{}, false
	for _, s := range r.seeds {
		addrs, err := r.addrs(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("look up %s: %w", s.host, err))
		}
		for _, addr := range addrs {
			if r.c.memberAt(addr) {
				live[addr] = now
				continue
			}
			if until := r.pause[addr]; now.Before(until) && !r.c.alone() {
				pause[addr] = until
				continue
			}
			if _, err := r.c.list.Join([]string{addr}); err != nil {
				errs = append(errs, fmt.Errorf("join %s: %w", addr, err))
				if since, was := r.live[addr]; was && now.Sub(since) < lostTime {
					live[addr], lost = since, true
				}
				continue
			}
			if r.c.memberAt(addr) {
				live[addr] = now
			} else {
				pause[addr] = now.Add(reachedRejoin * r.c.cfg.Rejoin)
			}
		}
	}
	r.pause, r.live, r.lost = pause, live, lost
	r.note(errors.Join(errs...))
}

func (r *rejoiner) note(err error) {
	c := r.c
	if c.ctx.Err() != nil {
		return
	}
	c.joinError.Store(&err)
	alone := c.alone()
	// Alone and without an error: the seeds name only this member.
	if (!alone || err == nil) && !c.joined.Swap(true) {
		c.log.Info("joined the cluster", "alone", alone)
	}
	switch {
	case err == nil:
		r.warn = false
	case alone && !r.warn:
		r.warn = true
		c.log.Warn("no other member can be reached; trying again", "error", err)
	default:
		c.log.Debug("some members to join through cannot be reached", "error", err)
	}
}
