package main

import (
	"fmt"
	"slices"
	"strings"
)

// plot draws a bar chart as SVG. It shows the metric of the case's first goal, or the
// throughput if the case has none: a bar for the median of each subject, and a line from
// its minimum to its maximum.
func (m *measured) plot(c benchCase) string {
	metric := "per_second"
	if len(c.goals) > 0 {
		metric = c.goals[0].metric
	}
	const left, right, height, row, top = 130, 640, 22, 34, 40
	most := 0.0
	for _, name := range m.Subjects {
		for _, v := range m.Values[name][metric] {
			most = max(most, v)
		}
	}
	if most == 0 {
		most = 1
	}
	x := func(v float64) float64 { return left + v/most*(right-left-90) }
	var w strings.Builder
	bottom := top + row*len(m.Subjects) + 10
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", right, bottom)
	fmt.Fprintf(&w, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", right, bottom)
	fmt.Fprintf(&w, `<text x="12" y="22" font-weight="bold">%s: %s</text>`+"\n", escape(c.title), escape(labels[metric]))
	for i, name := range m.Subjects {
		list := m.Values[name][metric]
		if len(list) == 0 {
			continue
		}
		y, color := top+row*i, "#9aa5b1"
		if i == 0 {
			color = "#2f6fde"
		}
		mid := median(list)
		fmt.Fprintf(&w, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-10, y+16, escape(name))
		fmt.Fprintf(&w, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", left, y, x(mid)-left, height, color)
		fmt.Fprintf(&w, `<path d="M%.1f %dH%.1f" stroke="#222" stroke-width="2"/>`+"\n", x(slices.Min(list)), y+height/2, x(slices.Max(list)))
		fmt.Fprintf(&w, `<text x="%.1f" y="%d">%s</text>`+"\n", max(x(mid), x(slices.Max(list)))+8, y+16, digits(mid))
	}
	fmt.Fprintln(&w, "</svg>")
	return w.String()
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}
