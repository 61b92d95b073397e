package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/usher-broker/usher/proto"
)

// drainProgress prints the progress of a drain: a bar on a terminal, and one line
// per second elsewhere.
type drainProgress struct {
	out     io.Writer
	bar     *progressbar.ProgressBar // nil if out is not a terminal
	printed time.Time
}

func newDrainProgress(out io.Writer) *drainProgress {
	p := &drainProgress{out: out}
	if isTerminal(out) {
		p.bar = progressbar.NewOptions64(1,
			progressbar.OptionSetWriter(out), progressbar.OptionUseANSICodes(true), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetWidth(30), progressbar.OptionShowDescriptionAtLineEnd(),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
	}
	return p
}

func (p *drainProgress) show(node string, d proto.Drain) {
	text := fmt.Sprintf("%s: %s", node, drainText(d))
	switch {
	case p.bar != nil:
		total := max(d.Total, d.Remaining, 1)
		p.bar.ChangeMax64(int64(total))
		_ = p.bar.Set64(int64(total - d.Remaining)) // fails only with the terminal
		p.bar.Describe(text)
	case time.Since(p.printed) >= time.Second:
		p.printed = time.Now()
		fmt.Fprintln(p.out, text)
	}
}

// close removes the bar. Only the first call has an effect.
func (p *drainProgress) close() {
	if p.bar != nil {
		_ = p.bar.Clear() // fails only with the terminal
		p.bar = nil
	}
}

// drainText describes a drain in progress.
func drainText(d proto.Drain) string {
	text := drainCounts(d)
	if d.Held > 0 {
		text += fmt.Sprintf(", %d held by the application", d.Held)
	}
	if d.Remaining > 0 {
		text += fmt.Sprintf(", deadline in %s", max(time.Until(d.Deadline), 0).Round(time.Second))
	}
	return text
}

// drainCounts returns how many sessions have left the node. Sessions that came after
// the drain began count as well.
func drainCounts(d proto.Drain) string {
	total := max(d.Total, d.Remaining)
	return fmt.Sprintf("drained %d of %d sessions, %d remaining", total-d.Remaining, total, d.Remaining)
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
