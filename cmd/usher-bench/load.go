package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/cmd/usher-bench/load"
	"github.com/usher-broker/usher/proto"
)

// loadFlags are the flags of every command that loads a cluster.
type loadFlags struct {
	process.OutputFlag `embed:""`

	Auth         string        `help:"Base URL of the login API of the cluster." default:"http://127.0.0.1:8080" placeholder:"URL"`
	CA           string        `name:"ca" help:"PEM file of the authorities that the certificates of the cluster are verified with. Default: those of the system." type:"path" placeholder:"FILE"`
	TargetIsMine bool          `help:"Allow a cluster on other machines. Without it, addresses of other machines are refused, those of nodes included."`
	Method       string        `help:"Login method: guest or password." enum:"guest,password" default:"guest" placeholder:"METHOD"`
	User         string        `help:"Name of the users. {n} in it is replaced with a number that counts up." default:"bench-{n}" placeholder:"NAME"`
	Password     string        `help:"Password of the users. Set it in the environment: other users of this machine can read the command line." placeholder:"TEXT"`
	Pool         string        `help:"Pool of the logins. Default: that of the cluster." placeholder:"NAME"`
	Ramp         time.Duration `help:"Time over which the rate rises from 0." default:"0s" placeholder:"TIME"`
	Timeout      time.Duration `help:"Time limit for a login, a handshake or an answer." default:"30s" placeholder:"TIME"`
	Processes    int           `help:"Processes that share the work. 0: as many as the limit of open files requires." default:"0" placeholder:"N"`
	Share        string        `hidden:"" help:"Index of this process and number of processes: I/N."`
}

// loader generates load in one process.
type loader struct {
	loadFlags
	e      *process.Env
	auth   *load.Poster
	dialer *load.Dialer
	index  int // of this process
	of     int // number of processes
	link   *workerLink

	echoes  *load.Tally // of echoes; set before sessions attach
	users   atomic.Int64
	open    atomic.Int64 // sessions that are attached now
	tallies map[string]*load.Tally
	within  map[string]time.Duration
	facts   map[string]float64 // other numbers; the sum over all processes
	maxima  map[string]float64 // other numbers; the maximum over all processes
	mu      sync.Mutex         // protects the maps and order
	order   []string           // names of the tallies, in the order of the output
}

// run does the work in as many processes as the sessions need, and prints the result.
// It calls work once in each process.
func (f loadFlags) run(ctx context.Context, e *process.Env, name string, sessions int, work func(ctx context.Context, l *loader) error) error {
	l, err := f.open(e)
	if err != nil {
		return err
	}
	defer l.auth.Close()
	if f.Share != "" {
		return l.runWorker(ctx, work)
	}
	processes, err := f.processes(sessions)
	if err != nil {
		return err
	}
	start := time.Now()
	stop := l.watch(ctx)
	if processes == 1 {
		err = work(ctx, l)
	} else {
		err = l.coordinate(ctx, processes)
	}
	stop()
	if err != nil {
		return err
	}
	return l.print(name, processes, time.Since(start))
}

func (f loadFlags) open(e *process.Env) (*loader, error) {
	roots, err := process.ReadRoots(f.CA)
	if err != nil {
		return nil, process.FlagError{Flag: "--ca", Err: err}
	}
	l := &loader{
		loadFlags: f, e: e, of: 1,
		dialer:  &load.Dialer{Timeout: f.Timeout, TLS: &tls.Config{RootCAs: roots}, Anywhere: f.TargetIsMine},
		tallies: map[string]*load.Tally{}, within: map[string]time.Duration{}, facts: map[string]float64{}, maxima: map[string]float64{},
	}
	if f.Share != "" {
		if _, err := fmt.Sscanf(f.Share, "%d/%d", &l.index, &l.of); err != nil || l.index < 0 || l.index >= l.of {
			return nil, process.FlagError{Flag: "--share", Err: fmt.Errorf("%q", f.Share)}
		}
		l.link = newWorkerLink(os.Stdin, e.Out)
	}
	l.dialer.Process = l.index
	switch {
	case f.Timeout <= 0:
		return nil, process.FlagError{Flag: "--timeout", Err: fmt.Errorf("%v: must be over 0", f.Timeout)}
	case f.Ramp < 0:
		return nil, process.FlagError{Flag: "--ramp", Err: fmt.Errorf("%v: must be 0 or more", f.Ramp)}
	case f.Processes < 0 || f.Processes > 200:
		return nil, process.FlagError{Flag: "--processes", Err: fmt.Errorf("%d: must be 0 to 200", f.Processes)}
	case f.Method == "password" && f.Password == "":
		return nil, process.FlagError{Flag: "--password", Err: errors.New("is required with --method=password (or USHER_PASSWORD)")}
	}
	if l.auth, err = load.NewPoster(l.dialer, f.Auth); err != nil {
		return nil, process.FlagError{Flag: "--auth", Err: err}
	}
	return l, l.checkTarget()
}

// checkTarget connects to auth once, so that a wrong address is reported at once.
func (l *loader) checkTarget() error {
	u, err := url.Parse(l.Auth)
	if err != nil {
		return process.FlagError{Flag: "--auth", Err: err}
	}
	conn, err := l.dialer.Dial(context.Background(), u)
	switch {
	case errors.Is(err, load.ErrElsewhere):
		return process.FlagError{Flag: "--auth", Err: fmt.Errorf("%w; if the cluster is yours, set --target-is-mine", err)}
	case err != nil:
		return fmt.Errorf("cannot connect to auth at %s: %w", u.Redacted(), err)
	}
	return conn.Close()
}

// otherFiles is the number of files that a process needs in addition to one for each
// session.
const otherFiles = 500

// processes returns the number of processes for the sessions.
func (f loadFlags) processes(sessions int) (int, error) {
	files, err := process.OpenFiles()
	if err != nil {
		return 0, err
	}
	each := int(min(files, math.MaxInt32)) - otherFiles
	if each < 1 {
		return 0, fmt.Errorf("a process may open only %d files: raise the limit (ulimit -n)", files)
	}
	need := max(1, (sessions+each-1)/each)
	if f.Processes == 0 {
		return need, nil
	}
	if f.Processes < need {
		return 0, process.FlagError{Flag: "--processes", Err: fmt.Errorf("%d: %d sessions need at least %d, because a process may open %d files", f.Processes, sessions, need, files)}
	}
	return f.Processes, nil
}

// mine returns the share of this process in n.
func (l *loader) mine(n int) int {
	each := n / l.of
	if l.index < n%l.of {
		each++
	}
	return each
}

// plan returns the share of this process in n operations at the rate.
func (l *loader) plan(n int, rate float64) load.Plan {
	return load.Plan{N: l.mine(n), Rate: rate / float64(l.of), Ramp: l.Ramp}
}

// planFor returns the share of this process in operations at the rate for the time.
func (l *loader) planFor(rate float64, d time.Duration) load.Plan {
	n := rate * (d - min(l.Ramp, d)/2).Seconds()
	return l.plan(int(math.Ceil(n)), rate)
}

// launch starts operations as planned, each in a goroutine and at most limit at the same
// time, and waits until all are done. late is the greatest delay of a start.
func (l *loader) launch(ctx context.Context, plan load.Plan, limit int, operation func(i int, planned time.Time)) (late time.Duration) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, limit)
	late = plan.Run(ctx, func(i int, planned time.Time) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			operation(i, planned)
		})
	})
	wg.Wait()
	return late
}

// pause waits for d, or until ctx ends. It returns the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// tally returns the tally with the name. The first call creates it.
func (l *loader) tally(name string) *load.Tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tallies[name]
	if t == nil {
		t = load.NewTally()
		l.tallies[name] = t
		l.order = append(l.order, name)
	}
	return t
}

// took records how long all operations of a tally took together. The maximum over all
// processes counts.
func (l *loader) took(name string, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.within[name] = max(l.within[name], d)
}

// fact adds v to a number of the output.
func (l *loader) fact(name string, v float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.facts[name] += v
}

// maxFact records a number of the output that is the maximum of all v.
func (l *loader) maxFact(name string, v float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.maxima[name] = max(l.maxima[name], v)
}

// late records by how much the generator was behind its schedule.
func (l *loader) late(d time.Duration) { l.maxFact(lateFact, float64(d.Microseconds())/1000) }

const lateFact = "generator_late_ms"

// request returns the next login.
func (l *loader) request() proto.LoginRequest {
	n := l.users.Add(1)*int64(l.of) + int64(l.index)
	user := strings.ReplaceAll(l.User, "{n}", fmt.Sprint(n))
	var credentials any = proto.GuestCredentials{Name: user}
	if l.Method == "password" {
		credentials = proto.PasswordCredentials{Username: user, Password: l.Password}
	}
	raw, _ := json.Marshal(credentials) // strings always marshal
	return proto.LoginRequest{Method: l.Method, Credentials: raw, Placement: proto.Placement{Pool: l.Pool}}
}

// watch prints one line of progress per second to standard error, until stop.
func (l *loader) watch(ctx context.Context) (stop func()) {
	start := time.Now()
	return l.report(ctx, func(p progress) {
		fmt.Fprintf(l.e.Err, "%4.0fs  %d attached, %d done, %d failed\n", time.Since(start).Seconds(), p.Open, p.Done, p.Failed)
	})
}

// report calls to once per second, until stop. stop waits for the last call.
func (l *loader) report(ctx context.Context, to func(progress)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { process.Every(ctx, time.Second, func() { to(l.progress()) }) })
	return func() { cancel(); wg.Wait() }
}

// progress counts attached sessions, and operations that are done and that failed.
type progress struct{ Open, Done, Failed int64 }

func (l *loader) progress() progress {
	p := progress{Open: l.open.Load()}
	if l.link != nil && l.link.sum != nil {
		return l.link.sum()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.tallies {
		done, failed := t.Count()
		p.Done += done
		p.Failed += failed
	}
	return p
}

// loadResult is the JSON output.
type loadResult struct {
	Bench     string                  `json:"bench"`
	Target    string                  `json:"target"`
	Processes int                     `json:"processes"`
	Seconds   float64                 `json:"seconds"`
	Tallies   map[string]load.Summary `json:"tallies"`
	Facts     map[string]float64      `json:"facts"`
	Version   string                  `json:"version"`
}

// failures are the facts that must be 0.
var failures = []string{"lost", "duplicated"}

func (l *loader) print(name string, processes int, all time.Duration) error {
	r := loadResult{
		Bench: name, Target: l.Auth, Processes: processes, Seconds: all.Seconds(),
		Tallies: map[string]load.Summary{}, Facts: l.facts, Version: process.Version(),
	}
	maps.Copy(r.Facts, l.maxima)
	for name, t := range l.tallies {
		r.Tallies[name] = t.Summary(l.within[name])
	}
	if l.JSON() {
		if err := process.WriteJSON(l.e.Out, r); err != nil {
			return err
		}
	} else {
		l.printTable(l.e.Out, r)
	}
	for _, f := range failures {
		if r.Facts[f] > 0 {
			fmt.Fprintf(l.e.Err, "usher-bench: %.0f messages %s\n", r.Facts[f], f)
			return process.ExitCode(1)
		}
	}
	for _, s := range r.Tallies {
		if s.Done > 0 {
			return nil
		}
	}
	return errors.New("no operation succeeded")
}

func (l *loader) printTable(w io.Writer, r loadResult) {
	fmt.Fprintf(w, "%-10s %9s %9s %9s %9s %9s %9s %9s\n", "", "done", "per s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms")
	for _, name := range l.order {
		s := r.Tallies[name]
		rate := "-"
		if s.PerSecond > 0 {
			rate = fmt.Sprintf("%.0f", s.PerSecond)
		}
		fmt.Fprintf(w, "%-10s %9d %9s %9.2f %9.2f %9.2f %9.2f %9.2f\n", name, s.Done, rate, s.P50MS, s.P90MS, s.P99MS, s.P999MS, s.MaxMS)
		for _, reason := range slices.Sorted(maps.Keys(s.Failed)) {
			fmt.Fprintf(w, "%-10s %9d failed: %s\n", "", s.Failed[reason], reason)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Facts)) {
		fmt.Fprintf(w, "%s: %s\n", strings.ReplaceAll(name, "_", " "), number(r.Facts[name]))
	}
	if late := r.Facts[lateFact]; late > 50 {
		fmt.Fprintf(w, "The generator was up to %.0f ms behind its schedule: it is overloaded, and the latencies contain its delay. Lower the rate, or run it on another machine.\n", late)
	}
}

func number(v float64) string {
	if v == math.Trunc(v) {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
