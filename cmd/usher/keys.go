package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/usher-broker/usher/auth/credential"
	"github.com/usher-broker/usher/broker/console"
	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/broker/token"
)

type keysCmd struct {
	Signing  signingCmd  `cmd:"" help:"Make a key that signs tokens, in a file for \"usher auth --signing-key\"."`
	Gossip   gossipCmd   `cmd:"" help:"Print a key that encrypts gossip, for USHER_GOSSIP_KEY or a file. Or replace the key in a file."`
	Node     nodeKeyCmd  `cmd:"" help:"Make a key that nodes sign their records with, and print its line for --node-keys."`
	Password passwordCmd `cmd:"" help:"Read a password and print its line for \"usher auth --users\"."`
	Init     initCmd     `cmd:"" help:"Make the keys of a cluster in a directory: signing.jwk and gossip.key. Existing files are kept."`
	API      apiCmd      `cmd:"" name:"api" help:"Make a key of the private API, and print it and its line for \"usher broker --api-keys\"."`
}

type signingCmd struct {
	Out string `env:"-" help:"File to write. Only its owner can read it." required:"" placeholder:"FILE"`
	Add bool   `env:"-" help:"Add a key to an existing file, to rotate: it is published at once, and signs after --key-overlap."`
}

func (c signingCmd) Run(e *process.Env) error {
	kid, err := token.GenerateFile(c.Out, c.Add)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Out, "%s: key %s\n", c.Out, kid)
	return nil
}

// initCmd is for the first start of a cluster of containers, which have no shell to
// test whether the keys exist.
type initCmd struct {
	Dir string `arg:"" help:"Existing directory." type:"path"`
}

func (c initCmd) Run(e *process.Env) error {
	signing, gossip := filepath.Join(c.Dir, "signing.jwk"), filepath.Join(c.Dir, "gossip.key")
	switch kid, err := token.GenerateFile(signing, false); {
	case errors.Is(err, fs.ErrExist):
		fmt.Fprintf(e.Out, "%s: exists already\n", signing)
	case err != nil:
		return err
	default:
		fmt.Fprintf(e.Out, "%s: key %s\n", signing, kid)
	}
	switch err := createSecret(gossip, newGossipKey()); {
	case errors.Is(err, fs.ErrExist):
		fmt.Fprintf(e.Out, "%s: exists already\n", gossip)
	case err != nil:
		return err
	default:
		fmt.Fprintf(e.Out, "%s: created\n", gossip)
	}
	return nil
}

// maxPasswordLine bounds the line of a password. credential.HashLine has a lower limit.
const maxPasswordLine = 64 << 10

type passwordCmd struct {
	User string `arg:"" help:"Name that the user logs in with."`
}

func (c passwordCmd) Run(e *process.Env) error {
	fmt.Fprintf(e.Err, "Password of %s, one line on standard input: ", c.User)
	line, err := bufio.NewReader(io.LimitReader(os.Stdin, maxPasswordLine)).ReadString('\n')
	if err != nil && line == "" {
		return errors.New("no password on standard input")
	}
	hash, err := credential.HashLine(c.User, strings.TrimRight(line, "\r\n"))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.Out, hash)
	return err
}

type apiCmd struct {
	Role string `arg:"" help:"Rights of the key: viewer, operator or backend." enum:"viewer,operator,backend"`
	Name string `arg:"" help:"Owner of the key, for the audit log."`
}

func (c apiCmd) Run(e *process.Env) error {
	key, line, err := console.NewKey(c.Role, c.Name)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.Err, "The key, which is not stored, and its line for the file of --api-keys:")
	_, err = fmt.Fprintf(e.Out, "%s\n%s\n", key, line)
	return err
}
