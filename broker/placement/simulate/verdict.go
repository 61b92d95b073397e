package simulate

import (
	"fmt"
	"slices"
)

// Missed says which of its goals the default policy did not reach. The results
// must hold the oracle's.
func (s Scenario) Missed(results []Result) (missed []string) {
	best, ok := find(results, Oracle)
	got, found := find(results, Default)
	if !ok || !found {
		return nil
	}
	if ratio := got.Worst / best.Worst; s.Goal.Ratio > 0 && ratio > s.Goal.Ratio {
		missed = append(missed, fmt.Sprintf("worst max/mean is %.4f of the oracle's, more than %v", ratio, s.Goal.Ratio))
	}
	if s.Goal.Peak > 0 && got.Peak > s.Goal.Peak {
		missed = append(missed, fmt.Sprintf("a node that was started was filled at %.2f times its rate, more than %v", got.Peak, s.Goal.Peak))
	}
	if best.Refused == 0 && got.Refused > 0 {
		missed = append(missed, fmt.Sprintf("%d refused; the oracle refuses nobody", got.Refused))
	}
	return missed
}

// Default is the name of the policy that the goals are for.
const Default = "least"

func find(results []Result, name string) (Result, bool) {
	i := slices.IndexFunc(results, func(r Result) bool { return r.Policy == name })
	if i < 0 {
		return Result{}, false
	}
	return results[i], true
}
