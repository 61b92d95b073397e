package simulate

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
)

// Sizes of a plot, in pixels.
const (
	plotWidth, plotHeight          = 760, 360
	left, right, upper, underneath = 60, 225, 40, 40
)

// colours are distinguishable with common colour vision deficiencies.
var colours = []string{"#000000", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#a6761d", "#999999"}

// Plot writes an SVG of max/mean over the time of the scenario, with one line for
// each result.
func Plot(w io.Writer, s Scenario, results []Result) error {
	top := 1.0
	for _, r := range results {
		if r.Policy != StaleLeast { // its values would flatten the others
			for _, y := range r.Trace {
				top = max(top, y)
			}
		}
	}
	top = 1 + max(niceStep(top-1)*math.Ceil((top-1)/niceStep(top-1)), 0.01)
	p := plot{top: top, seconds: s.MeasureS}
	p.f(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui,sans-serif" font-size="12" role="img">`, plotWidth, plotHeight)
	p.f(`<title>%s: fullest node over the mean</title>`, escape(s.Name))
	p.f(`<rect width="%d" height="%d" fill="#fff"/>`, plotWidth, plotHeight)
	p.f(`<text x="%d" y="22" font-size="15">%s: fullest node over the mean</text>`, left, escape(s.Name))
	p.axes()
	for i, r := range results {
		p.line(i, r)
	}
	p.f(`</svg>`)
	_, err := io.WriteString(w, p.b.String())
	return err
}

type plot struct {
	b            strings.Builder
	top, seconds float64
}

func (p *plot) f(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

func (p *plot) x(seconds float64) float64 {
	return left + seconds/p.seconds*float64(plotWidth-left-right)
}

func (p *plot) y(v float64) float64 {
	v = min(max(v, 1), p.top)
	return plotHeight - underneath - (v-1)/(p.top-1)*float64(plotHeight-upper-underneath)
}

func (p *plot) axes() {
	step := niceStep(p.top - 1)
	for v := 1.0; v <= p.top+step/2; v += step {
		p.f(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`, left, plotWidth-right, p.y(v), p.y(v))
		p.f(`<text x="%d" y="%.1f" text-anchor="end">%s</text>`, left-6, p.y(v)+4, number(v))
	}
	step = niceStep(p.seconds)
	for t := 0.0; t <= p.seconds; t += step {
		p.f(`<text x="%.1f" y="%d" text-anchor="middle">%s s</text>`, p.x(t), plotHeight-underneath+18, number(t))
	}
	p.f(`<path d="M%d %d V%d H%d" fill="none" stroke="#333"/>`, left, upper, plotHeight-underneath, plotWidth-right)
}

func (p *plot) line(i int, r Result) {
	colour := colours[i%len(colours)]
	var points strings.Builder
	for k, v := range r.Trace {
		fmt.Fprintf(&points, "%.1f,%.1f ", p.x(float64(k+1)/10), p.y(v))
	}
	p.f(`<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`, strings.TrimSpace(points.String()), colour)
	at := upper + 14 + 20*i
	p.f(`<line x1="%d" x2="%d" y1="%d" y2="%d" stroke="%s" stroke-width="3"/>`, plotWidth-right+14, plotWidth-right+34, at-4, at-4, colour)
	p.f(`<text x="%d" y="%d">%s %.3f</text>`, plotWidth-right+40, at, escape(r.Policy), r.Worst)
}

// niceStep returns a round step that divides the length into four to ten parts.
func niceStep(length float64) float64 {
	if length <= 0 {
		return 1
	}
	step := math.Pow(10, math.Floor(math.Log10(length)))
	for _, part := range []float64{0.1, 0.2, 0.5} {
		if length/(step*part) <= 10 {
			return step * part
		}
	}
	return step
}

func number(v float64) string {
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.4f", v), "0"), ".")
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder does not fail
	return b.String()
}
