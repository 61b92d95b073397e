package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// labels holds the names of metrics in the page, with their units. The page does not show
// metrics without a label.
var labels = map[string]string{
	"bytes":                 "bytes per session",
	"attach_us":             "CPU per attach, µs",
	"resume_us":             "CPU per resume, µs",
	"cpu_us":                "CPU each, µs",
	"paced_cpu_us":          "CPU each, paced, µs",
	"per_second":            "per second",
	"connects_per_second":   "attaches per second",
	"p50_ms":                "p50, ms",
	"p99_ms":                "p99, ms",
	"paced_p50_ms":          "p50, paced, ms",
	"redis_cpu_us":          "CPU of Redis each, µs",
	"attached_p99_quiet_ms": "p99 of others before, ms",
	"attached_p99_ms":       "p99 of others meanwhile, ms",
}

// page writes the tables of all cases into the file, each between its two marks, and the
// plots into the directory next to it.
func (r *results) page(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text := string(b)
	plots := strings.TrimSuffix(file, ".md")
	for _, c := range cases() {
		m := r.Cases[c.name]
		if m == nil {
			continue
		}
		begin, end := "<!-- begin "+c.name+" -->\n", "<!-- end "+c.name+" -->"
		before, rest, ok := strings.Cut(text, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			return fmt.Errorf("%s has no marks <!-- begin %s --> and <!-- end %s -->", file, c.name, c.name)
		}
		text = before + begin + m.table(c, filepath.Base(plots)) + end + after
		if err := os.MkdirAll(plots, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(plots, c.name+".svg"), []byte(m.plot(c)), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

// table returns the results of a case as Markdown.
func (m *measured) table(c benchCase, plots string) string {
	var w strings.Builder
	fmt.Fprintf(&w, "%s\n\n", c.how)
	var shown []string
	for _, metric := range metrics(m) {
		if labels[metric] != "" {
			shown = append(shown, metric)
		}
	}
	fmt.Fprint(&w, "|  |")
	for _, metric := range shown {
		fmt.Fprintf(&w, " %s |", labels[metric])
	}
	fmt.Fprintf(&w, "\n|---|%s\n", strings.Repeat("---|", len(shown)))
	for _, name := range m.Subjects {
		fmt.Fprintf(&w, "| %s |", name)
		for _, metric := range shown {
			list := m.Values[name][metric]
			if len(list) == 0 {
				fmt.Fprint(&w, " – |")
				continue
			}
			fmt.Fprintf(&w, " %s |", spread(list))
		}
		fmt.Fprintln(&w)
	}
	fmt.Fprintln(&w)
	for _, g := range c.goals {
		fmt.Fprintf(&w, "- %s, %s to %s: **%.2f** (%s)\n", labels[g.metric], g.of, strings.Replace(g.to, ":attach_us", "'s attach", 1), m.ratio(g), g.limit())
	}
	if c.name == "proxy" {
		m.proxyRatios(&w)
	}
	fmt.Fprintf(&w, "\n![%s](%s/%s.svg)\n\n", c.title, plots, c.name)
	fmt.Fprintf(&w, "Medians of %d runs, with the minimum and maximum. %s.\n", m.runs(), m.Machine)
	return w.String()
}

// proxyRatios writes the ratios of each metric without a proxy to that with a proxy: the
// minimum and maximum of all proxies.
func (m *measured) proxyRatios(w *strings.Builder) {
	for _, metric := range []string{"per_second", "cpu_us", "p50_ms", "connects_per_second"} {
		var least, most float64
		for i, name := range m.Subjects[1:] {
			x := median(m.Values[m.Subjects[0]][metric]) / median(m.Values[name][metric])
			if i == 0 {
				least, most = x, x
			}
			least, most = min(least, x), max(most, x)
		}
		fmt.Fprintf(w, "- %s, straight to proxied: **%.2f–%.2f**\n", labels[metric], least, most)
	}
}

// runs returns the largest number of runs of a subject.
func (m *measured) runs() int {
	most := 0
	for _, v := range m.Values {
		for _, list := range v {
			most = max(most, len(list))
		}
	}
	return most
}

func (m machine) String() string {
	var versions []string
	for name, v := range m.Versions {
		if v != "" {
			versions = append(versions, strings.TrimPrefix(name+" "+strings.TrimPrefix(v, "usher "), "go "))
		}
	}
	slices.Sort(versions)
	return fmt.Sprintf("%d cores, %s, Linux %s; %s", m.Cores, m.CPU, m.Kernel, strings.Join(versions, ", "))
}
