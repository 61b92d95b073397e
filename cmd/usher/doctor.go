package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// doctorCmd looks at a machine, or a cluster that runs. It takes the flags, and
// so the environment, of the roles.
type doctorCmd struct {
	gossipFlags `embed:""`
	storeFlags  `embed:""`
	apiFlags    `embed:""`

	Auth        []string `help:"Login doors of the cluster: their keys must be the same." placeholder:"URL"`
	SigningKey  string   `help:"File of the keys that sign: the doors must have published them." type:"path" placeholder:"FILE"`
	Listen      string   `help:"Address that a node is to listen on: is it free?" placeholder:"ADDR"`
	Ops         string   `help:"Ops door of a process on this machine, host:port or unix:PATH: is it ready, and for how long is its certificate good?" placeholder:"ADDR"`
	MaxSessions int      `help:"Sessions that a node on this machine is to hold." default:"10000" placeholder:"N"`
	ProbeCA     string   `name:"probe-ca" help:"File of the certificates that the nodes' are verified with, in place of the system's." type:"path" placeholder:"FILE"`
	JSON        bool     `name:"json" help:"Print the findings as JSON."`
}

// finding is one thing that was looked at.
type finding struct {
	Check string `json:"check"`
	Found string `json:"found"` // ok, warning, wrong or skipped
	What  string `json:"what"`
	Mend  string `json:"mend,omitempty"`
}

// doctor notes what it finds.
type doctor struct {
	*doctorCmd
	log      *slog.Logger
	findings []finding
	tell     func(finding)
}

func (d *doctor) note(f finding) {
	d.findings = append(d.findings, f)
	d.tell(f)
}

func (d *doctor) ok(check, format string, args ...any) {
	d.note(finding{Check: check, Found: "ok", What: fmt.Sprintf(format, args...)})
}

func (d *doctor) skip(check, format string, args ...any) {
	d.note(finding{Check: check, Found: "skipped", What: fmt.Sprintf(format, args...)})
}

func (d *doctor) warn(check, what, mend string) {
	d.note(finding{Check: check, Found: "warning", What: what, Mend: mend})
}

func (d *doctor) wrong(check, what, mend string) {
	d.note(finding{Check: check, Found: "wrong", What: what, Mend: mend})
}

// doctorTime bounds the whole examination.
const doctorTime = time.Minute

func (c *doctorCmd) Run(ctx context.Context, e *env) error {
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	d := &doctor{doctorCmd: c, log: slog.New(slog.DiscardHandler), tell: func(finding) {}}
	if !c.JSON {
		d.tell = func(f finding) { printFinding(e.out, f) }
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
		if f.Found == "wrong" {
			wrong++
		}
	}
	if c.JSON {
		enc := json.NewEncoder(e.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(d.findings); err != nil {
			return err
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d things are wrong", wrong)
	}
	return nil
}

func printFinding(w io.Writer, f finding) {
	mark := map[string]string{"ok": "ok     ", "warning": "WARNING", "wrong": "WRONG  ", "skipped": "-      "}[f.Found]
	fmt.Fprintf(w, "%s  %-12s %s\n", mark, f.Check, strings.ReplaceAll(f.What, "\n", " "))
	if f.Mend != "" {
		fmt.Fprintf(w, "%23s%s\n", "", f.Mend)
	}
}
