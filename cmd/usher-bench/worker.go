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

	"github.com/usher-broker/usher/cmd/usher-bench/load"
)

// A process can open a limited number of connections. For more sessions, a coordinator
// starts worker processes. A worker writes a line of JSON to its standard output when it
// reaches a barrier, and continues when the coordinator writes a line to its standard
// input.

// workerLine is a line from a worker.
type workerLine struct {
	At       string                   `json:"at,omitempty"` // the barrier at which it waits
	Progress *progress                `json:"progress,omitempty"`
	Shares   map[string]load.Share    `json:"shares,omitempty"` // at the end
	Within   map[string]time.Duration `json:"within,omitempty"`
	Facts    map[string]float64       `json:"facts,omitempty"`
	Max      map[string]float64       `json:"max,omitempty"`
	Order    []string                 `json:"order,omitempty"`
}

// workerLink connects a worker with its coordinator.
type workerLink struct {
	mu  sync.Mutex
	out *json.Encoder
	in  *bufio.Reader
	sum func() progress // of all workers; nil in a worker
}

func newWorkerLink(in io.Reader, out io.Writer) *workerLink {
	return &workerLink{out: json.NewEncoder(out), in: bufio.NewReader(in)}
}

func (w *workerLink) send(l workerLine) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Encode(l)
}

// barrier waits until all processes have reached the point.
func (l *loader) barrier(ctx context.Context, point string) error {
	if l.link == nil {
		return ctx.Err()
	}
	if err := l.link.send(workerLine{At: point}); err != nil {
		return err
	}
	_, err := l.link.in.ReadString('\n') // fails when the coordinator has ended
	return err
}

// runWorker does the work in a worker and sends the counts to the coordinator.
func (l *loader) runWorker(ctx context.Context, work func(context.Context, *loader) error) error {
	stop := l.report(ctx, func(p progress) {
		_ = l.link.send(workerLine{Progress: &p}) // if the coordinator has ended, the last line fails
	})
	err := work(ctx, l)
	stop()
	if err != nil {
		return err
	}
	done := workerLine{Shares: map[string]load.Share{}, Within: l.within, Facts: l.facts, Max: l.maxima, Order: l.order}
	for name, t := range l.tallies {
		done.Shares[name] = t.Share()
	}
	return l.link.send(done)
}

// worker is a worker process, as the coordinator sees it.
type worker struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan workerLine
	last  progress // protected by a mutex of coordinate
}

// coordinate does the work in n workers, and adds up their counts.
func (l *loader) coordinate(ctx context.Context, n int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var workers []*worker
	l.link = &workerLink{sum: func() progress {
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
		w, err := startWorker(self, append(append([]string{}, l.e.Args...), fmt.Sprintf("--share=%d/%d", i, n)), l.e.Err)
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

// add adds the counts of a worker.
func (l *loader) add(line workerLine) {
	for _, name := range line.Order {
		l.tally(name).Add(line.Shares[name])
		l.took(name, line.Within[name])
	}
	for name, v := range line.Facts {
		l.fact(name, v)
	}
	for name, v := range line.Max {
		l.maxFact(name, v)
	}
}

func startWorker(self string, args []string, errOut io.Writer) (*worker, error) {
	w := &worker{cmd: exec.Command(self, args...), lines: make(chan workerLine)}
	w.cmd.Stderr = errOut
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C ends the coordinator only, and the coordinator ends its workers
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

// next returns the next line that is not progress, and calls note with progress.
func (w *worker) next(ctx context.Context, note func(progress)) (workerLine, error) {
	for {
		select {
		case line, open := <-w.lines:
			switch {
			case !open:
				return line, errors.New("a worker process has failed")
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

// stop ends the process, unless it has ended already.
func (w *worker) stop() {
	w.in.Close()
	_ = w.cmd.Process.Signal(syscall.SIGTERM)
	var rest sync.WaitGroup
	rest.Go(func() {
		for range w.lines {
			continue // so that the process does not block while it writes
		}
	})
	defer rest.Wait()
	kill := time.AfterFunc(5*time.Second, func() { _ = w.cmd.Process.Kill() })
	defer kill.Stop()
	_ = w.cmd.Wait()
}
