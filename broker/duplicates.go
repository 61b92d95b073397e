package broker

import (
	"fmt"
	"strconv"
	"strings"
)

// Duplicates is the policy for a login of a user who already has sessions in the
// pool. The zero value is the policy "replace".
type Duplicates struct {
	// Sessions is how many sessions one user may have in a pool. 0 means one,
	// AnyNumber has no limit.
	Sessions int
	// Reject refuses a login that exceeds Sessions (session.ErrConnected).
	// Otherwise the oldest sessions end, with close code 4002 and the reason
	// duplicate_login. In both cases a session that has lost its connection ends
	// first.
	Reject bool
}

// AnyNumber, as Duplicates.Sessions, means no limit.
const AnyNumber = -1

const maxDuplicates = 1000

// ParseDuplicates parses a policy: replace, reject, allow, or allow:N.
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

// ParseDuplicatesByPool parses a list of policies. Each is POLICY, for all pools,
// or POOL=POLICY, for one. The key of the policy for all pools is "".
func ParseDuplicatesByPool(list []string) (map[string]Duplicates, error) {
	policies := map[string]Duplicates{}
	for _, s := range list {
		pool, policy, named := strings.Cut(s, "=")
		if !named {
			pool, policy = "", s
		} else if pool == "" {
			return nil, fmt.Errorf("%q: the name of the pool before = is missing", s)
		}
		if _, twice := policies[pool]; twice {
			return nil, fmt.Errorf("%q: a policy for that pool, or for all pools, is already given", s)
		}
		d, err := ParseDuplicates(policy)
		if err != nil {
			return nil, err
		}
		policies[pool] = d
	}
	return policies, nil
}
