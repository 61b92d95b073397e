package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// results holds the last results of each case.
type results struct {
	Cases map[string]*measured `json:"cases"`
}

// machine describes the machine that a case ran on, and the versions of the software.
type machine struct {
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Kernel   string            `json:"kernel"`
	Versions map[string]string `json:"versions"`
}

func readResults(file string) (*results, error) {
	r := &results{Cases: map[string]*measured{}}
	if file == "" {
		return r, nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	return r, json.Unmarshal(b, r)
}

func (r *results) write(file string) error {
	if file == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

func thisMachine(usher string) machine {
	m := machine{Cores: runtime.NumCPU(), Kernel: version.FindString(output("uname", "-r")), Versions: map[string]string{"go": runtime.Version()}}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if found := regexp.MustCompile(`model name\s*:\s*(.*)`).FindSubmatch(b); found != nil {
			m.CPU = string(found[1])
		}
	}
	m.Versions["usher"] = output(usher, "version")
	m.Versions["node"] = output("node", "--version")
	for tool, args := range map[string][]string{"haproxy": {"-v"}, "nginx": {"-v"}, "redis-server": {"--version"}} {
		m.Versions[tool] = version.FindString(output(findTool(tool), args...))
	}
	return m
}

var version = regexp.MustCompile(`[0-9]+\.[0-9]+(\.[0-9]+)?`)

// output returns the first line that a program prints, or "" if it fails.
func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	if n := len(list); n%2 == 0 {
		return (list[n/2-1] + list[n/2]) / 2
	}
	return list[len(list)/2]
}

// ratio returns the goal's ratio of medians.
func (m *measured) ratio(g goal) float64 {
	to, metric := g.to, g.metric
	if subject, other, ok := strings.Cut(g.to, ":"); ok {
		to, metric = subject, other
	}
	return median(m.Values[g.of][g.metric]) / median(m.Values[to][metric])
}

// missed reports whether the ratio violates the goal, or is not a positive number.
func (g goal) missed(ratio float64) bool {
	return !(ratio > 0) || g.most > 0 && ratio > g.most || g.least > 0 && ratio < g.least
}

// limit returns the goal's limit as text.
func (g goal) limit() string {
	if g.most > 0 {
		return fmt.Sprintf("at most %.3g", g.most)
	}
	return fmt.Sprintf("at least %.3g", g.least)
}

// print prints medians and goals, and returns the number of missed goals.
func (r *results) print(w io.Writer, match *regexp.Regexp) (missed int) {
	for _, c := range cases() {
		m := r.Cases[c.name]
		if m == nil || !match.MatchString(c.name) {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", c.title)
		for _, name := range m.Subjects {
			fmt.Fprintf(w, "  %-14s", name)
			for _, metric := range metrics(m) {
				if list := m.Values[name][metric]; len(list) > 0 {
					fmt.Fprintf(w, "  %s %s", metric, spread(list))
				}
			}
			fmt.Fprintln(w)
		}
		for _, g := range c.goals {
			ratio, verdict := m.ratio(g), "met"
			if g.missed(ratio) {
				verdict = "MISSED"
				missed++
			}
			fmt.Fprintf(w, "  %s: %s / %s = %.3f, %s: %s\n", g.metric, g.of, g.to, ratio, g.limit(), verdict)
		}
	}
	return missed
}

// metrics returns the names of the metrics of a case, sorted.
func metrics(m *measured) []string {
	var names []string
	for _, v := range m.Values {
		for name := range v {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// spread formats the median of a list with the minimum and the maximum.
func spread(list []float64) string {
	return fmt.Sprintf("%s (%s–%s)", digits(median(list)), digits(slices.Min(list)), digits(slices.Max(list)))
}

// digits formats a number with three significant digits, or all digits before the point.
func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
