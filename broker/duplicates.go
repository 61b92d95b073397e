package broker

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Duplicates says what becomes of a login of a user who has sessions in the
// pool. The zero value is the policy «replace».
type Duplicates struct {
	// Sessions is how many sessions of one user there may be in a pool; 0 is one,
	// and AnyNumber as many as logins make.
	Sessions int
	// Reject refuses a login that is one too many (session.ErrConnected). Without
	// it the oldest sessions end, with 4002 and the reason duplicate_login. A
	// session that has lost its connection gives way in either case.
	Reject bool
}

// AnyNumber of sessions.
const AnyNumber = -1

const (
	maxDuplicates    = 1000
	duplicatedReason = "duplicate_login"
)

// ParseDuplicates reads a policy: replace, reject, allow, or allow:N.
func ParseDuplicates(s string) (Duplicates, error) {
	switch name, number, counted := strings.Cut(s, ":"); {
	case s == "replace":
		return Duplicates{}, nil
	case s == "reject":
		return Duplicates{Reject: true}, nil
	case s == "allow":
		return Duplicates{Sessions: AnyNumber}, nil
	case name == "allow" && counted:
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > maxDuplicates {
			return Duplicates{}, fmt.Errorf("%q: N in allow:N must be 1 to %d", s, maxDuplicates)
		}
		return Duplicates{Sessions: n}, nil
	}
	return Duplicates{}, fmt.Errorf("%q: must be replace, reject, allow or allow:N", s)
}

// ParseDuplicatesByPool reads a list of policies, each for all pools or, as
// POOL=POLICY, for one. The key of the one for all is "".
func ParseDuplicatesByPool(list []string) (map[string]Duplicates, error) {
	policies := map[string]Duplicates{}
	for _, s := range list {
		pool, policy, named := strings.Cut(s, "=")
		if !named {
			pool, policy = "", s
		} else if pool == "" {
			return nil, fmt.Errorf("%q: names no pool", s)
		}
		if _, twice := policies[pool]; twice {
			return nil, errors.New("two policies for the same pool, or for all")
		}
		d, err := ParseDuplicates(policy)
		if err != nil {
			return nil, err
		}
		policies[pool] = d
	}
	return policies, nil
}

// rule is what the store is to see to when a session is opened in the pool.
func (c *Config) rule(pool string) session.Rule {
	d, ok := c.Duplicates[pool]
	if !ok {
		d = c.Duplicates[""]
	}
	r := session.Rule{
		Sessions: max(d.Sessions, 1), Refuse: d.Reject,
		Reason: proto.CloseKicked, CloseReason: duplicatedReason, TTL: c.tombstoneTTL(),
	}
	if d.Sessions == AnyNumber {
		r.Sessions = 0
	}
	return r
}
