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

	"github.com/usher-broker/usher/cmd/usher/load"
	"github.com/usher-broker/usher/proto"
)

// loadFlags are those of every bench that loads a cluster.
type loadFlags struct {
	Auth         string        `help:"Login door of the cluster to measure." default:"http://127.0.0.1:8080" placeholder:"URL"`
	CA           string        `name:"ca" help:"File of the certificates that the cluster's are verified with, in place of the system's." type:"path" placeholder:"FILE"`
	TargetIsMine bool          `help:"Load a cluster that is not on this machine. Without it every other address is refused, also those that the cluster names."`
	Method       string        `help:"How to log in: guest or password." enum:"guest,password" default:"guest" placeholder:"METHOD"`
	User         string        `help:"Name of the users; {n} in it is a number that counts up." default:"bench-{n}" placeholder:"NAME"`
	Password     string        `help:"Their password. Give it by the environment, not on the command line." placeholder:"TEXT"`
	Pool         string        `help:"Pool to ask for. Default: that of the cluster." placeholder:"NAME"`
	Ramp         time.Duration `help:"Time over which the rate rises from nothing." default:"0s" placeholder:"TIME"`
	Timeout      time.Duration `help:"Time that one login, handshake or answer may take." default:"30s" placeholder:"TIME"`
	Processes    int           `help:"Processes that share the work. Default: as many as it takes, since each has files for so many connections." default:"0" placeholder:"N"`
	JSON         bool          `name:"json" help:"Print one line of JSON."`
	Share        string        `hidden:"" help:"Which of the processes this is: I/N."`
}

// loader is one process that makes load.
type loader struct {
	loadFlags
	e      *env
	door   *load.Poster
	dialer *load.Dialer
	index  int // of this process,
	of     int // of so many
	link   *workerLink

	echoes  *load.Tally // of messages that come back; set before sessions attach
	users   atomic.Int64
	open    atomic.Int64 // sessions that are attached now
	tallies map[string]*load.Tally
	within  map[string]time.Duration
	facts   map[string]float64 // what is not a tally; sums of all processes
	worst   map[string]float64 // likewise; the largest of all processes
	mu      sync.Mutex         // protects the maps
	said    []string           // names of the tallies, in the order to print
}

// run does the work in as many processes as sessions need, and prints what came of
// it. The work is called once in each, with a loader of its own.
func (f loadFlags) run(ctx context.Context, e *env, name string, sessions int, work func(ctx context.Context, l *loader) error) error {
	l, err := f.open(e)
	if err != nil {
		return err
	}
	defer l.door.Close()
	if f.Share != "" {
		return l.serve(ctx, work)
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
		err = l.lead(ctx, processes)
	}
	stop()
	if err != nil {
		return err
	}
	return l.print(name, processes, time.Since(start))
}

func (f loadFlags) open(e *env) (*loader, error) {
	roots, err := readRoots(f.CA)
	if err != nil {
		return nil, usageError{"--ca", err}
	}
	l := &loader{
		loadFlags: f, e: e, of: 1,
		dialer:  &load.Dialer{Timeout: f.Timeout, TLS: &tls.Config{RootCAs: roots}, Anywhere: f.TargetIsMine},
		tallies: map[string]*load.Tally{}, within: map[string]time.Duration{}, facts: map[string]float64{}, worst: map[string]float64{},
	}
	if f.Share != "" {
		if _, err := fmt.Sscanf(f.Share, "%d/%d", &l.index, &l.of); err != nil || l.index < 0 || l.index >= l.of {
			return nil, usageError{"--share", fmt.Errorf("%q", f.Share)}
		}
		l.link = newWorkerLink(os.Stdin, e.out)
	}
	l.dialer.Process = l.index
	switch {
	case f.Timeout <= 0:
		return nil, usageError{"--timeout", fmt.Errorf("%v: must be over 0", f.Timeout)}
	case f.Ramp < 0:
		return nil, usageError{"--ramp", fmt.Errorf("%v: must be 0 or more", f.Ramp)}
	case f.Processes < 0 || f.Processes > 200:
		return nil, usageError{"--processes", fmt.Errorf("%d: must be 0 to 200", f.Processes)}
	case f.Method == "password" && f.Password == "":
		return nil, usageError{"--password", errors.New("is required with --method=password (or USHER_PASSWORD)")}
	}
	if l.door, err = load.NewPoster(l.dialer, f.Auth); err != nil {
		return nil, usageError{"--auth", err}
	}
	return l, l.refuseElsewhere()
}

// refuseElsewhere says at once what every connection would be refused for.
func (l *loader) refuseElsewhere() error {
	u, err := url.Parse(l.Auth)
	if err != nil {
		return usageError{"--auth", err}
	}
	conn, err := l.dialer.Dial(context.Background(), u)
	switch {
	case errors.Is(err, load.ErrElsewhere):
		return usageError{"--auth", fmt.Errorf("%w; if the cluster is yours, say so with --target-is-mine", err)}
	case err != nil:
		return fmt.Errorf("nothing to measure at %s: %w", l.Auth, err)
	}
	return conn.Close()
}

// filesAside are those that a process needs for other things than sessions.
const filesAside = 500

// processes returns how many it takes for so many sessions.
func (f loadFlags) processes(sessions int) (int, error) {
	files, err := openFiles()
	if err != nil {
		return 0, err
	}
	each := int(min(files, math.MaxInt32)) - filesAside
	if each < 1 {
		return 0, fmt.Errorf("a process may open %d files: too few", files)
	}
	need := max(1, (sessions+each-1)/each)
	if f.Processes == 0 {
		return need, nil
	}
	if f.Processes < need {
		return 0, usageError{"--processes", fmt.Errorf("%d: it takes %d for %d sessions, since a process may open %d files", f.Processes, need, sessions, files)}
	}
	return f.Processes, nil
}

// mine returns this process's part of n.
func (l *loader) mine(n int) int {
	each := n / l.of
	if l.index < n%l.of {
		each++
	}
	return each
}

// plan is the part of this process in n things at a rate.
func (l *loader) plan(n int, rate float64) load.Plan {
	return load.Plan{N: l.mine(n), Rate: rate / float64(l.of), Ramp: l.Ramp}
}

// planFor is the part of this process in things at a rate for so long.
func (l *loader) planFor(rate float64, d time.Duration) load.Plan {
	n := rate * (d - min(l.Ramp, d)/2).Seconds()
	return l.plan(int(math.Ceil(n)), rate)
}

// launch begins things as planned, each in a goroutine and at most so many at the
// same time, and waits until all are done. It returns by how much it was late.
func (l *loader) launch(ctx context.Context, plan load.Plan, most int, thing func(i int, planned time.Time)) (late time.Duration) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, most)
	late = plan.Run(ctx, func(i int, planned time.Time) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			thing(i, planned)
		})
	})
	wg.Wait()
	return late
}

// pause waits for so long, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// tally returns the tally of the name.
func (l *loader) tally(name string) *load.Tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tallies[name]
	if t == nil {
		t = load.NewTally()
		l.tallies[name] = t
		l.said = append(l.said, name)
	}
	return t
}

// took notes how long it took to do all that a tally counts, where that is longest.
func (l *loader) took(name string, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.within[name] = max(l.within[name], d)
}

// fact adds to a number that is printed.
func (l *loader) fact(name string, v float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.facts[name] += v
}

// atWorst notes a number of which the largest is printed.
func (l *loader) atWorst(name string, v float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.worst[name] = max(l.worst[name], v)
}

// late notes by how much the generator was behind its schedule.
func (l *loader) late(d time.Duration) { l.atWorst(lateFact, float64(d.Microseconds())/1000) }

const lateFact = "generator_late_ms"

// request is the next login.
func (l *loader) request() proto.LoginRequest {
	n := l.users.Add(1)*int64(l.of) + int64(l.index)
	user := strings.ReplaceAll(l.User, "{n}", fmt.Sprint(n))
	var credentials any = proto.GuestCredentials{Name: user}
	if l.Method == "password" {
		credentials = proto.PasswordCredentials{Username: user, Password: l.Password}
	}
	raw, _ := json.Marshal(credentials) // strings marshal
	return proto.LoginRequest{Method: l.Method, Credentials: raw, Placement: proto.Placement{Pool: l.Pool}}
}

// watch prints a line of progress a second, beside what is printed in the end.
func (l *loader) watch(ctx context.Context) (stop func()) {
	start := time.Now()
	return l.report(ctx, func(p progress) {
		fmt.Fprintf(l.e.err, "%4.0fs  %d attached, %d done, %d failed\n", time.Since(start).Seconds(), p.Open, p.Done, p.Failed)
	})
}

// report calls to once a second, until stop, which waits for the last call.
func (l *loader) report(ctx context.Context, to func(progress)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { every(ctx, time.Second, func() { to(l.progress()) }) })
	return func() { cancel(); wg.Wait() }
}

// progress is where a process is.
type progress struct{ Open, Done, Failed int64 }

func (l *loader) progress() progress {
	p := progress{Open: l.open.Load()}
	if l.link != nil && l.link.lead != nil {
		return l.link.lead()
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

// loadResult is the JSON that is printed.
type loadResult struct {
	Bench     string                  `json:"bench"`
	Target    string                  `json:"target"`
	Processes int                     `json:"processes"`
	Seconds   float64                 `json:"seconds"`
	Tallies   map[string]load.Summary `json:"tallies"`
	Facts     map[string]float64      `json:"facts"`
	Version   string                  `json:"version"`
}

// Facts that mean that a promise was broken.
var broken = []string{"lost", "doubled"}

func (l *loader) print(name string, processes int, all time.Duration) error {
	r := loadResult{
		Bench: name, Target: l.Auth, Processes: processes, Seconds: all.Seconds(),
		Tallies: map[string]load.Summary{}, Facts: l.facts, Version: versionString(),
	}
	maps.Copy(r.Facts, l.worst)
	for name, t := range l.tallies {
		r.Tallies[name] = t.Summary(l.within[name])
	}
	if l.JSON {
		if err := json.NewEncoder(l.e.out).Encode(r); err != nil {
			return err
		}
	} else {
		l.tell(l.e.out, r)
	}
	for _, f := range broken {
		if r.Facts[f] > 0 {
			fmt.Fprintf(l.e.err, "usher: %.0f messages %s\n", r.Facts[f], f)
			return exitCode(1)
		}
	}
	for _, s := range r.Tallies {
		if s.Done > 0 {
			return nil
		}
	}
	return errors.New("nothing was done")
}

func (l *loader) tell(w io.Writer, r loadResult) {
	fmt.Fprintf(w, "%-10s %9s %9s %9s %9s %9s %9s %9s\n", "", "done", "per s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms")
	for _, name := range l.said {
		s := r.Tallies[name]
		rate := "-"
		if s.PerSecond > 0 {
			rate = fmt.Sprintf("%.0f", s.PerSecond)
		}
		fmt.Fprintf(w, "%-10s %9d %9s %9.2f %9.2f %9.2f %9.2f %9.2f\n", name, s.Done, rate, s.P50MS, s.P90MS, s.P99MS, s.P999MS, s.MaxMS)
		for _, why := range slices.Sorted(maps.Keys(s.Failed)) {
			fmt.Fprintf(w, "%-10s %9d failed: %s\n", "", s.Failed[why], why)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Facts)) {
		fmt.Fprintf(w, "%s: %s\n", strings.ReplaceAll(name, "_", " "), number(r.Facts[name]))
	}
	if late := r.Facts[lateFact]; late > 50 {
		fmt.Fprintf(w, "The generator was up to %.0f ms behind its schedule: it is overloaded itself. That is in the latencies; ask for less, or run it on another machine.\n", late)
	}
}

func number(v float64) string {
	if v == math.Trunc(v) {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
