package main

import (
	"fmt"
	"strings"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/proto"
)

// nodeKeyCmd makes a key that nodes sign their records with.
type nodeKeyCmd struct {
	Out  string `env:"-" help:"File to write, for \"usher node --node-key\". Only its owner can read it." required:"" placeholder:"FILE"`
	Node string `env:"-" help:"Id of the only node that may use the key. * means any node." default:"*" placeholder:"ID"`
}

func (c nodeKeyCmd) Run(e *process.Env) error {
	if c.Node == "" || len(c.Node) > proto.MaxNameBytes || strings.ContainsAny(c.Node, " \t\r\n#") {
		return process.FlagError{Flag: "--node", Err: fmt.Errorf("%q: must have 1 to %d bytes, without white space and #", c.Node, proto.MaxNameBytes)}
	}
	secret, public, err := process.NewNodeKey()
	if err != nil {
		return err
	}
	if err := createSecret(c.Out, secret); err != nil {
		return err
	}
	fmt.Fprintln(e.Err, "Add this line to the file of --node-keys of every auth and broker:")
	_, err = fmt.Fprintf(e.Out, "%s %s\n", c.Node, public)
	return err
}
