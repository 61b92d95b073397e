package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/usher-broker/usher/broker/process"
)

// doctorCmd checks a machine, or a running cluster. It has the flags, and so the
// environment variables, of the roles.
type doctorCmd struct {
	process.GossipFlags `embed:""`
	process.StoreFlags  `embed:""`
	apiFlags            `embed:""`
	process.OutputFlag  `embed:""`

	Auth        []string `help:"Base URLs of the login APIs of the cluster. They must publish the same keys." placeholder:"URL"`
	SigningKey  string   `help:"File of the keys that sign tokens. The login APIs must publish them." type:"path" placeholder:"FILE"`
	Listen      string   `help:"Address that a node will listen on. It must be free." placeholder:"ADDR"`
	Ops         string   `help:"Ops port of a process on this machine, host:port or unix:PATH. The process must be ready, and its certificate must not expire soon." placeholder:"ADDR"`
	MaxSessions int      `help:"Sessions that a node on this machine will hold." default:"10000" placeholder:"N"`
	ProbeCA     string   `name:"probe-ca" help:"PEM file of the authorities that the certificates of nodes are verified with. Default: those of the system." type:"path" placeholder:"FILE"`
}

// Help implements kong.HelpProvider.
func (*doctorCmd) Help() string {
	return "A check that needs a flag which is not set is skipped. Exits with 1 if anything is wrong."
}

// finding is the result of one check.
type finding struct {
	Check   string `json:"check"`
	Result  string `json:"result"` // ok, warning, wrong or skipped
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// doctor collects findings.
type doctor struct {
	*doctorCmd
	apiSet   bool // the address of the private API is not the default one
	log      *slog.Logger
	findings []finding
	print    func(finding)
}

func (d *doctor) note(f finding) {
	d.findings = append(d.findings, f)
	d.print(f)
}

func (d *doctor) ok(check, format string, args ...any) {
	d.note(finding{Check: check, Result: "ok", Message: fmt.Sprintf(format, args...)})
}

func (d *doctor) skip(check, format string, args ...any) {
	d.note(finding{Check: check, Result: "skipped", Message: fmt.Sprintf(format, args...)})
}

func (d *doctor) warn(check, message, fix string) {
	d.note(finding{Check: check, Result: "warning", Message: message, Fix: fix})
}

func (d *doctor) wrong(check, message, fix string) {
	d.note(finding{Check: check, Result: "wrong", Message: message, Fix: fix})
}

// doctorTime bounds all checks together.
const doctorTime = time.Minute

func (c *doctorCmd) Run(ctx context.Context, e *process.Env) error {
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	d := &doctor{doctorCmd: c, apiSet: c.setIn(e.Args), log: slog.New(slog.DiscardHandler), print: func(finding) {}}
	if !c.JSON() {
		d.print = func(f finding) { printFinding(e.Out, f) }
	}
	d.files()
	d.kernel()
	d.ports()
	d.redis(ctx)
	d.keys(ctx)
	peers := d.gossip(ctx)
	d.nodes(ctx, peers)
	d.api(ctx)
	d.ops(ctx)
	wrong := 0
	for _, f := range d.findings {
		if f.Result == "wrong" {
			wrong++
		}
	}
	if c.JSON() {
		if err := process.WriteJSON(e.Out, d.findings); err != nil {
			return err
		}
	}
	if wrong > 0 {
		if wrong == 1 {
			return errors.New("1 check failed")
		}
		return fmt.Errorf("%d checks failed", wrong)
	}
	return nil
}

func printFinding(w io.Writer, f finding) {
	mark := map[string]string{"ok": "ok     ", "warning": "WARNING", "wrong": "WRONG  ", "skipped": "-      "}[f.Result]
	fmt.Fprintf(w, "%s  %-12s %s\n", mark, f.Check, strings.ReplaceAll(f.Message, "\n", " "))
	if f.Fix != "" {
		fmt.Fprintf(w, "%23s%s\n", "", f.Fix)
	}
}
