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
	plain := flag.String("plain", "bin/peer-server", "binary of the plain servers (go build ./test/peers/server)")
	js := flag.String("js", "test/peers/js", "directory of the servers in JavaScript, its modules installed")
	only := flag.String("only", "", "run the cases whose name matches this regular expression")
	runs := flag.Int("runs", 5, "how often each subject takes its turn")
	raw := flag.String("raw", "docs/performance/peers.json", "file that what was measured is written to; cases that did not run keep theirs")
	bars := flag.Bool("bars", true, "fail where a bar is missed")
	page := flag.String("page", "docs/performance.md", "page whose tables are written anew; empty for none")
	flag.StringVar(&profiles, "profiles", "", "directory to write profiles of Usher to, as text; what is profiled is slower")
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
	r, err := newRig(*usher, *plain, *js, dir)
	if err != nil {
		return err
	}
	results, err := readResults(*raw)
	if err != nil {
		return err
	}
	for _, c := range cases() {
		if !match.MatchString(c.name) || *runs == 0 {
			continue
		}
		if results.Cases[c.name], err = measure(ctx, r, c, *runs); err != nil {
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
	if missed > 0 && *bars {
		return fmt.Errorf("%d bars missed", missed)
	}
	return nil
}

// measured is what came of a case.
type measured struct {
	Subjects []string                        `json:"subjects"`
	Values   map[string]map[string][]float64 `json:"values"` // by subject and metric, one of each run
	Machine  machine                         `json:"machine"`
}

// measure has the subjects take turns.
func measure(ctx context.Context, r *rig, c benchCase, runs int) (*measured, error) {
	m := &measured{Values: map[string]map[string][]float64{}}
	for _, s := range c.subjects {
		m.Subjects = append(m.Subjects, s.name)
		m.Values[s.name] = map[string][]float64{}
	}
	for i := range runs {
		order := slices.Clone(c.subjects)
		if i%2 == 1 {
			slices.Reverse(order) // whoever comes first has another machine than who comes last
		}
		for _, sub := range order {
			v, err := once(ctx, r, c, sub)
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

func once(ctx context.Context, r *rig, c benchCase, sub subject) (values, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	s, err := sub.start(r)
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
