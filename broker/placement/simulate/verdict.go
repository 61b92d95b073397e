package simulate

import (
	"fmt"
	"slices"
)

// Missed returns the goals that the default policy did not reach, as sentences.
// It returns nil if the results do not include the oracle's and the default
// policy's.
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
		missed = append(missed, fmt.Sprintf("a started node was filled at %.2f times its rate, more than %v", got.Peak, s.Goal.Peak))
	}
	if best.Refused == 0 && got.Refused > 0 {
		missed = append(missed, fmt.Sprintf("%d sessions refused; the oracle refuses none", got.Refused))
	}
	return missed
}

// Default is the policy that the goals are for.
const Default = "least"

func find(results []Result, name string) (Result, bool) {
	i := slices.IndexFunc(results, func(r Result) bool { return r.Policy == name })
	if i < 0 {
		return Result{}, false
	}
	return results[i], true
}
