package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	usher := flag.String("usher", "bin/usher", "binary of Usher")
	bench := flag.String("usher-bench", "bin/usher-bench", "binary of usher-bench")
	plain := flag.String("plain", "bin/peer-server", "binary of the plain servers (go build ./test/peers/server)")
	js := flag.String("js", "test/peers/js", "directory of the JavaScript servers, with their modules installed")
	only := flag.String("only", "", "run the cases whose name matches this regular expression")
	runs := flag.Int("runs", 5, "number of runs of each subject")
	raw := flag.String("raw", "docs/performance/peers.json", "file to write the measured values to; the values of cases that did not run are kept")
	goals := flag.Bool("goals", true, "fail if a goal is missed")
	page := flag.String("page", "docs/performance.md", "page whose tables to rewrite; empty for none")
	before := flag.String("before", "", "directory with usher and usher-bench of an earlier build: compare with it alone, and print the ratios")
	flag.StringVar(&profiles, "profiles", "", "directory to write CPU profiles of Usher to, as text; profiling makes the measured server slower")
	flag.Parse()
	match, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "usher-peers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f, err := newFixture(*usher, *bench, *plain, *js, dir)
	if err != nil {
		return err
	}
	if *before != "" {
		return compareBefore(ctx, f, *before, match, *runs, os.Stdout)
	}
	results, err := readResults(*raw)
	if err != nil {
		return err
	}
	for _, c := range cases() {
		if !match.MatchString(c.name) || *runs == 0 {
			continue
		}
		if results.Cases[c.name], err = measure(ctx, f, c, *runs); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		results.Cases[c.name].Machine = thisMachine(*usher)
		if err := results.write(*raw); err != nil {
			return err
		}
	}
	missed := results.print(os.Stdout, match)
	if *page != "" {
		if err := results.page(*page); err != nil {
			return err
		}
	}
	if missed > 0 && *goals {
		return fmt.Errorf("%d goals missed", missed)
	}
	return nil
}

// measured holds the results of a case.
type measured struct {
	Subjects []string                        `json:"subjects"`
	Values   map[string]map[string][]float64 `json:"values"` // by subject and metric, one value for each run
	Machine  machine                         `json:"machine"`
}

// measure runs a case: its subjects alternately, each runs times.
func measure(ctx context.Context, f *fixture, c benchCase, runs int) (*measured, error) {
	m := &measured{Values: map[string]map[string][]float64{}}
	for _, s := range c.subjects {
		m.Subjects = append(m.Subjects, s.name)
		m.Values[s.name] = map[string][]float64{}
	}
	for i := range runs {
		order := slices.Clone(c.subjects)
		if i%2 == 1 {
			slices.Reverse(order) // because the machine's state may favour the first or the last subject
		}
		for _, sub := range order {
			v, err := runOnce(ctx, f, c, sub)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", sub.name, err)
			}
			line, _ := json.Marshal(v)
			log.Printf("%s %d/%d %s %s", c.name, i+1, runs, sub.name, line)
			for name, x := range v {
				m.Values[sub.name][name] = append(m.Values[sub.name][name], x)
			}
		}
	}
	return m, nil
}

// runOnce starts a subject, measures it once, and stops it.
func runOnce(ctx context.Context, f *fixture, c benchCase, sub subject) (values, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	s, err := sub.start(f)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	v, err := c.run(ctx, s, sub)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, s.procs[0].out.String())
	}
	return v, nil
}
