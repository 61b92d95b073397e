package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/usher-broker/usher/auth/credential"
	"github.com/usher-broker/usher/broker/console"
	"github.com/usher-broker/usher/broker/token"
)

type keysCmd struct {
	Signing  signingCmd  `cmd:"" help:"Make a key that signs tokens, in a file for «usher auth --signing-key»."`
	Gossip   gossipCmd   `cmd:"" help:"Print a key that encrypts gossip, for USHER_GOSSIP_KEY or a file; or go over to another."`
	Node     nodeKeyCmd  `cmd:"" help:"Make a key that nodes sign with what they say of themselves, and print the line for «--node-keys»."`
	Password passwordCmd `cmd:"" help:"Read a password and print a line for «usher auth --users»."`
	Init     initCmd     `cmd:"" help:"Make the keys of a cluster in a folder: signing.jwk and gossip.key. What is there stays as it is."`
	API      apiCmd      `cmd:"" name:"api" help:"Make a key of the private API: prints it once, and the line for «usher broker --api-keys»."`
}

type signingCmd struct {
	Out string `help:"File to write; made readable for the owner alone." required:"" placeholder:"FILE"`
	Add bool   `help:"Add a key to an existing file, to rotate: nodes learn it at once, and it signs after the overlap."`
}

func (c signingCmd) Run(e *env) error {
	kid, err := token.GenerateFile(c.Out, c.Add)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s: key %s\n", c.Out, kid)
	return nil
}

// initCmd is for the first start of a cluster of containers, which has no shell
// to ask whether the keys are there.
type initCmd struct {
	Dir string `arg:"" help:"Folder that exists." type:"path"`
}

func (c initCmd) Run(e *env) error {
	signing, gossip := filepath.Join(c.Dir, "signing.jwk"), filepath.Join(c.Dir, "gossip.key")
	switch kid, err := token.GenerateFile(signing, false); {
	case errors.Is(err, fs.ErrExist):
		fmt.Fprintf(e.out, "%s: there already\n", signing)
	case err != nil:
		return err
	default:
		fmt.Fprintf(e.out, "%s: key %s\n", signing, kid)
	}
	switch err := createSecret(gossip, newGossipKey()); {
	case errors.Is(err, fs.ErrExist):
		fmt.Fprintf(e.out, "%s: there already\n", gossip)
	case err != nil:
		return err
	default:
		fmt.Fprintf(e.out, "%s: made\n", gossip)
	}
	return nil
}

type passwordCmd struct {
	User string `arg:"" help:"Name the user logs in with."`
}

func (c passwordCmd) Run(e *env) error {
	fmt.Fprintf(e.err, "Password of %s, one line on standard input: ", c.User)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && line == "" {
		return errors.New("no password on standard input")
	}
	hash, err := credential.HashLine(c.User, strings.TrimRight(line, "\r\n"))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.out, hash)
	return err
}

type apiCmd struct {
	Role string `arg:"" help:"What the key may do: viewer, operator or backend." enum:"viewer,operator,backend"`
	Name string `arg:"" help:"Whose key it is; stands in the audit log."`
}

func (c apiCmd) Run(e *env) error {
	key, line, err := console.NewKey(c.Role, c.Name)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.err, "The key, shown once; the line below it goes into the file of --api-keys:")
	_, err = fmt.Fprintf(e.out, "%s\n%s\n", key, line)
	return err
}
