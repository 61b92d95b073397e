package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"path/filepath"
	"regexp"
)

// beforeName is the subject that is an earlier build of Usher.
const beforeName = "before"

// compareBefore runs each matching case with Usher and with the earlier build whose
// usher and usher-bench are in the directory, by turns, and prints the ratio of each
// metric. It runs no other subject and rewrites no page.
func compareBefore(ctx context.Context, f *fixture, dir string, match *regexp.Regexp, runs int, w io.Writer) error {
	earlier := *f
	earlier.usher, earlier.bench = filepath.Join(dir, "usher"), filepath.Join(dir, "usher-bench")
	log.Printf("now:    %s\nbefore: %s", output(f.usher, "version"), output(earlier.usher, "version"))
	for _, c := range cases() {
		if !match.MatchString(c.name) || runs == 0 {
			continue
		}
		c.subjects = withBefore(c.subjects[0], &earlier)
		m, err := measure(ctx, f, c, runs)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		m.printRatios(w, c)
	}
	return nil
}

// withBefore returns the subject, and the same one with the programs of the earlier
// fixture.
func withBefore(now subject, earlier *fixture) []subject {
	before := now
	before.name = beforeName
	before.start = func(*fixture) (*server, error) { return now.start(earlier) }
	return []subject{now, before}
}

// printRatios prints the medians of both builds, with the minimum and maximum, and
// their ratio.
func (m *measured) printRatios(w io.Writer, c benchCase) {
	fmt.Fprintf(w, "\n%s\n", c.title)
	now := c.subjects[0].name
	for _, metric := range metrics(m) {
		g := goal{metric: metric, of: now, to: beforeName}
		fmt.Fprintf(w, "  %-14s now %-24s before %-24s ratio %.2f\n", metric,
			spread(m.Values[now][metric]), spread(m.Values[beforeName][metric]), m.ratio(g))
	}
}
