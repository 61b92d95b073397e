package credential

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// A login of an unknown user and one with a wrong password get the same answer and take
// the same time: each is the slower one of a pair equally often. The hash is cheap here, so
// that a difference in the rest of the work is visible.
func TestTimingRevealsNothing(t *testing.T) {
	each := 1000
	if os.Getenv("USHER_SLOW") != "" {
		each = 10_000
	}
	p := open(t, "ada:"+cheap(t, "secret")+"\n")
	dummy, err := parseHash(cheap(t, "x"))
	if err != nil {
		t.Fatal(err)
	}
	p.dummy = dummy
	took := map[string][]float64{}
	try := func(user string) {
		c := creds(user, "wrong password")
		start := time.Now()
		id, err := p.Verify(t.Context(), c)
		took[user] = append(took[user], float64(time.Since(start)))
		if !errors.Is(err, ErrInvalidCredentials) || id.User != "" {
			t.Fatalf("%s: %+v, %v", user, id, err)
		}
	}
	for range each {
		// Alternating, and each one first equally often, so that other load affects both.
		order := []string{"ada", "eve"}
		if rand.IntN(2) == 0 {
			slices.Reverse(order)
		}
		for _, user := range order {
			try(user)
		}
	}
	auc, z := mannWhitney(took["ada"], took["eve"])
	median := func(list []float64) time.Duration {
		slices.Sort(list)
		return time.Duration(list[len(list)/2])
	}
	t.Logf("%d each: P(wrong password slower than unknown user) = %.4f, z = %.2f; medians %v and %v",
		each, auc, z, median(took["ada"]), median(took["eve"]))
	// Five standard deviations occur by chance once in two million runs. A difference that
	// helps a guesser is far larger.
	if math.Abs(z) > 5 {
		t.Errorf("P = %.4f, z = %.2f: the two cases can be distinguished", auc, z)
	}
}

// mannWhitney returns the probability that an element of a is greater than one of b, and
// its distance from one half in standard deviations.
func mannWhitney(a, b []float64) (auc, z float64) {
	type sample struct {
		value float64
		ofA   bool
	}
	var all []sample
	for _, v := range a {
		all = append(all, sample{v, true})
	}
	for _, v := range b {
		all = append(all, sample{v, false})
	}
	slices.SortFunc(all, func(x, y sample) int {
		switch {
		case x.value < y.value:
			return -1
		case x.value > y.value:
			return 1
		}
		return 0
	})
	ranks := 0.0 // of the elements of a; equal elements share their ranks
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].value == all[i].value {
			j++
		}
		for k := i; k < j; k++ {
			if all[k].ofA {
				ranks += float64(i+1+j) / 2
			}
		}
		i = j
	}
	n, m := float64(len(a)), float64(len(b))
	u := ranks - n*(n+1)/2
	return u / (n * m), (u - n*m/2) / math.Sqrt(n*m*(n+m+1)/12)
}

func TestMannWhitney(t *testing.T) {
	a, b := make([]float64, 500), make([]float64, 500)
	for i := range a {
		a[i], b[i] = rand.NormFloat64(), rand.NormFloat64()+0.5
	}
	if auc, z := mannWhitney(a, b); auc > 0.45 || z > -5 {
		t.Errorf("half a deviation apart: %.3f, %.1f", auc, z)
	}
	if auc, z := mannWhitney(a, slices.Clone(a)); auc != 0.5 || z != 0 {
		t.Errorf("the same: %.3f, %.1f", auc, z)
	}
}
