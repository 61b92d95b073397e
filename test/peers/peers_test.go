package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGoals checks that a goal is missed if the ratio of the medians violates it, or if
// there are no values.
func TestGoals(t *testing.T) {
	m := &measured{Subjects: []string{"usher", "other"}, Values: map[string]map[string][]float64{
		"usher": {"cpu_us": {9, 1, 10}}, "other": {"cpu_us": {20, 10, 15}, "attach_us": {18}},
	}}
	for _, c := range []struct {
		goal   goal
		ratio  float64
		missed bool
	}{
		{goal{metric: "cpu_us", of: "usher", to: "other", most: 0.6}, 0.6, false},
		{goal{metric: "cpu_us", of: "usher", to: "other", most: 0.5}, 0.6, true},
		{goal{metric: "cpu_us", of: "usher", to: "other", least: 0.7}, 0.6, true},
		{goal{metric: "cpu_us", of: "usher", to: "other:attach_us", most: 1}, 0.5, false},
	} {
		if ratio := m.ratio(c.goal); ratio != c.ratio || c.goal.missed(ratio) != c.missed {
			t.Errorf("%+v: %v, missed %v", c.goal, ratio, c.goal.missed(ratio))
		}
	}
	if none := (goal{metric: "bytes", of: "usher", to: "other", most: 1}); !none.missed(m.ratio(none)) {
		t.Error("a goal without values counts as met")
	}
}

// TestPage checks that page writes the tables only between their marks, and that the
// plots are XML.
func TestPage(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "performance.md")
	text := "# Title\n"
	r := &results{Cases: map[string]*measured{}}
	for _, c := range cases() {
		m := &measured{Values: map[string]map[string][]float64{}}
		for _, s := range c.subjects {
			m.Subjects = append(m.Subjects, s.name)
			m.Values[s.name] = map[string][]float64{"bytes": {1, 2}, "cpu_us": {3}, "per_second": {4}, "p50_ms": {5}, "attach_us": {6}, "resume_us": {7}}
		}
		r.Cases[c.name] = m
		text += "before " + c.name + "\n<!-- begin " + c.name + " -->\nold text\n<!-- end " + c.name + " -->\nafter\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		if err := r.page(file); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := string(b)
	if strings.Contains(got, "old text") || strings.Count(got, "after\n") != len(cases()) || strings.Count(got, "| Colyseus |") != 3 {
		t.Errorf("the page:\n%s", got)
	}
	for _, c := range cases() {
		b, err := os.ReadFile(filepath.Join(dir, "performance", c.name+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal(b, new(struct{})); err != nil {
			t.Errorf("%s.svg: %v", c.name, err)
		}
	}
	if err := os.WriteFile(file, []byte("no marks"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.page(file); err == nil {
		t.Error("a page without marks was written")
	}
}
