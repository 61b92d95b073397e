package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/usher-broker/usher/cmd/usher/load"
)

// A process that makes load has files for so many connections. For more, one
// process leads others: they say a line of JSON each time they have reached a
// point, and go on when they are told on their standard input.

// workerLine is what a process says to the one that leads it.
type workerLine struct {
	At       string                   `json:"at,omitempty"` // a point that it waits at
	Progress *progress                `json:"progress,omitempty"`
	Shares   map[string]load.Share    `json:"shares,omitempty"` // when it is done
	Within   map[string]time.Duration `json:"within,omitempty"`
	Facts    map[string]float64       `json:"facts,omitempty"`
	Worst    map[string]float64       `json:"worst,omitempty"`
	Said     []string                 `json:"said,omitempty"`
}

// workerLink is a process's connection to the one that leads it.
type workerLink struct {
	mu   sync.Mutex
	out  *json.Encoder
	in   *bufio.Reader
	lead func() progress // in the one that leads
}

func newWorkerLink(in io.Reader, out io.Writer) *workerLink {
	return &workerLink{out: json.NewEncoder(out), in: bufio.NewReader(in)}
}

func (w *workerLink) say(l workerLine) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Encode(l)
}

// meet waits until all processes are at the point.
func (l *loader) meet(ctx context.Context, point string) error {
	if l.link == nil {
		return ctx.Err()
	}
	if err := l.link.say(workerLine{At: point}); err != nil {
		return err
	}
	_, err := l.link.in.ReadString('\n') // ends with the process that leads
	return err
}

// serve is the work of a process that is led.
func (l *loader) serve(ctx context.Context, work func(context.Context, *loader) error) error {
	stop := l.report(ctx, func(p progress) {
		_ = l.link.say(workerLine{Progress: &p}) // what it says last tells whether it is heard
	})
	err := work(ctx, l)
	stop()
	if err != nil {
		return err
	}
	done := workerLine{Shares: map[string]load.Share{}, Within: l.within, Facts: l.facts, Worst: l.worst, Said: l.said}
	for name, t := range l.tallies {
		done.Shares[name] = t.Share()
	}
	return l.link.say(done)
}

// worker is a process that is led.
type worker struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan workerLine
	last  progress // of lead's
}

// lead has other processes do the work, and adds up what they have counted.
func (l *loader) lead(ctx context.Context, n int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var workers []*worker
	l.link = &workerLink{lead: func() progress {
		mu.Lock()
		defer mu.Unlock()
		var sum progress
		for _, w := range workers {
			sum.Open += w.last.Open
			sum.Done += w.last.Done
			sum.Failed += w.last.Failed
		}
		return sum
	}}
	defer func() {
		for _, w := range workers {
			w.stop()
		}
	}()
	for i := range n {
		w, err := startWorker(self, append(append([]string{}, l.e.args...), fmt.Sprintf("--share=%d/%d", i, n)), l.e.err)
		if err != nil {
			return err
		}
		mu.Lock()
		workers = append(workers, w)
		mu.Unlock()
	}
	for left := n; left > 0; {
		left = n
		for _, w := range workers {
			line, err := w.next(ctx, func(p progress) {
				mu.Lock()
				defer mu.Unlock()
				w.last = p
			})
			if err != nil {
				return err
			}
			if line.At == "" {
				left--
				l.add(line)
			}
		}
		if left > 0 {
			for _, w := range workers {
				if _, err := fmt.Fprintln(w.in, "go"); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// add adds what a process has counted.
func (l *loader) add(line workerLine) {
	for _, name := range line.Said {
		l.tally(name).Add(line.Shares[name])
		l.took(name, line.Within[name])
	}
	for name, v := range line.Facts {
		l.fact(name, v)
	}
	for name, v := range line.Worst {
		l.atWorst(name, v)
	}
}

func startWorker(self string, args []string, errOut io.Writer) (*worker, error) {
	w := &worker{cmd: exec.Command(self, args...), lines: make(chan workerLine)}
	w.cmd.Stderr = errOut
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for the one that leads
	in, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	w.in = in
	go func() {
		defer close(w.lines)
		for d := json.NewDecoder(out); ; {
			var line workerLine
			if d.Decode(&line) != nil {
				return
			}
			w.lines <- line
		}
	}()
	return w, nil
}

// next returns the next line that is not about progress.
func (w *worker) next(ctx context.Context, note func(progress)) (workerLine, error) {
	for {
		select {
		case line, open := <-w.lines:
			switch {
			case !open:
				return line, errors.New("a process that made load has failed")
			case line.Progress != nil:
				note(*line.Progress)
			default:
				return line, nil
			}
		case <-ctx.Done():
			return workerLine{}, ctx.Err()
		}
	}
}

// stop ends the process. One that is done has ended by itself.
func (w *worker) stop() {
	w.in.Close()
	_ = w.cmd.Process.Signal(syscall.SIGTERM)
	go func() {
		for range w.lines {
			continue // it must not wait for somebody to listen
		}
	}()
	kill := time.AfterFunc(5*time.Second, func() { _ = w.cmd.Process.Kill() })
	defer kill.Stop()
	_ = w.cmd.Wait()
}
