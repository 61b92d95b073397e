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
	// A member that is alone has nobody to burden, and everything to gain.
	aloneRejoin = time.Second
	// reachedRejoin, in rejoin intervals, is the pause after an address was
	// reached that is not the one its member advertises. Every try exchanges
	// all of the members' states.
	reachedRejoin = 6
)

// seed is an address to join through.
type seed struct{ host, port string }

func parseSeeds(join []string) ([]seed, error) {
	var seeds []seed
	for _, s := range join {
		host, port, err := net.SplitHostPort(s)
		if err == nil && host == "" {
			err = errors.New("no host")
		}
		if err == nil {
			var n uint64
			if n, err = strconv.ParseUint(port, 10, 16); err == nil && n == 0 {
				err = errors.New("port 0")
			}
		}
		if err != nil {
			return nil, fmt.Errorf("cluster: join %q: want host:port: %w", s, err)
		}
		seeds = append(seeds, seed{host, port})
	}
	return seeds, nil
}

// addrs returns the addresses the seed has now.
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

// keepJoined tries the seeds again and again: a member that joined nobody but
// itself would else stay alone, and two halves of a cluster that lost sight of
// each other would stay apart.
func (c *Cluster) keepJoined(seeds []seed) {
	r := rejoiner{c: c, seeds: seeds, lookup: net.DefaultResolver.LookupHost}
	for {
		r.round(time.Now())
		if c.contested.Swap(false) {
			// The other may be this member's past, dead by now: say once more
			// where it is.
			c.announce()
		}
		pause := c.cfg.Rejoin
		if c.alone() {
			pause = min(pause, aloneRejoin)
		}
		// Members that start together must not come together for ever.
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

// at reports whether a live member, this one included, has the address.
func (c *Cluster) at(addr string) bool {
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
	pause  map[string]time.Time // until when an address is let be
	warn   bool                 // this member is alone, and that was logged
}

// round tries every address of every seed that is not one of a live member.
func (r *rejoiner) round(now time.Time) {
	var errs []error
	pause := map[string]time.Time{}
	for _, s := range r.seeds {
		addrs, err := r.addrs(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("look up %s: %w", s.host, err))
		}
		for _, addr := range addrs {
			if r.c.at(addr) {
				continue
			}
			if until := r.pause[addr]; now.Before(until) && !r.c.alone() {
				pause[addr] = until
				continue
			}
			if _, err := r.c.list.Join([]string{addr}); err != nil {
				errs = append(errs, fmt.Errorf("join %s: %w", addr, err))
				continue
			}
			pause[addr] = now.Add(reachedRejoin * r.c.cfg.Rejoin)
		}
	}
	r.pause = pause
	r.note(errors.Join(errs...))
}

func (r *rejoiner) note(err error) {
	c := r.c
	if c.ctx.Err() != nil {
		return
	}
	c.joinError.Store(&err)
	alone := c.alone()
	// Alone without an error: all that the seeds name is this very member.
	if (!alone || err == nil) && !c.joined.Swap(true) {
		c.log.Info("joined the cluster", "alone", alone)
	}
	switch {
	case err == nil:
		r.warn = false
	case alone && !r.warn:
		r.warn = true
		c.log.Warn("no other member can be reached; trying on", "error", err)
	default:
		c.log.Debug("not every member to join through can be reached", "error", err)
	}
}
