package main

import (
	"context"
	"net"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/console"
	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/broker/serve"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

type brokerCmd struct {
	process.GossipFlags  `embed:""`
	process.StoreFlags   `embed:""`
	signingFlags         `embed:""`
	serve.PlacementFlags `embed:""`
	process.TLSFlags     `embed:""`

	SigningKey  string `help:"File of the keys that sign tokens, the same as auth's. Without it this broker opens no sessions for backends." type:"path" placeholder:"FILE"`
	TLSClientCA string `name:"tls-client-ca" help:"PEM file of the authorities of client certificates: each client of the private API must send a certificate, in addition to its key." type:"path" placeholder:"FILE"`
	APIRate     int    `name:"api-rate" help:"Requests per second with one API key. 0: no limit." default:"1000" placeholder:"N"`
	Listen      string `help:"Address of the private API." default:"127.0.0.1:8081" placeholder:"ADDR"`
	Ops         string `help:"Address of the ops port, host:port or unix:PATH: /healthz, /readyz, /metrics, pprof. Keep it private." default:"127.0.0.1:0" placeholder:"ADDR"`
	APIKeys     string `name:"api-keys" help:"File of the keys of the private API (\"usher keys api\" makes its lines). Read again when it changes. Without it the API listens on loopback only, and needs no key." type:"path"`
}

func (c *brokerCmd) Run(ctx context.Context, e *process.Env) error {
	var stop process.Closers
	defer func() { stop.Close() }()
	stop.Add(process.Start(process.TuneCollector))
	m, err := openMember(c.GossipFlags, c.StoreFlags, &stop)
	if err != nil {
		return err
	}
	signer, err := c.signer(&stop, e)
	if err != nil {
		return err
	}
	keys, err := c.apiKeys(&stop, e)
	if err != nil {
		return err
	}
	b, err := serve.Start(serve.Options{
		PlacementFlags: c.PlacementFlags, Role: proto.RoleBroker,
		Gossip: m.gossip, GossipKeyFile: c.GossipKeyFile, Store: m.store, Signer: signer, TokenTTL: c.TokenTTL, Registry: m.registry, Logger: e.Log,
	})
	if err != nil {
		return err
	}
	stop.Add(b.Close)
	plain, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return process.FlagError{Flag: "--listen", Err: err}
	}
	stop.Add(func() { plain.Close() }) // if it is never served
	if err := c.RequireClients(c.TLSClientCA); err != nil {
		return err
	}
	ln, _, err := c.Secure(plain, m.registry, &stop, e.Log)
	if err != nil {
		return err
	}
	rate := c.APIRate
	if rate == 0 {
		rate = -1
	}
	api, err := b.API(ln, keys, rate, e.Log)
	if err != nil {
		return process.FlagError{Flag: "--api-keys", Err: err}
	}
	stop.Add(func() { api.Close(process.CloseTimeout) })
	ops, err := process.OpenOps(c.Ops, m.registry, b.Checks(), &stop, e.Log)
	if err != nil {
		return err
	}
	e.Log.Info("broker runs", "issuer", b.Issuer, "listen", api.Addr(), "gossip", b.Cluster.Addr(), "ops", ops.Addr())
	<-ctx.Done()
	return nil
}

func (c *brokerCmd) signer(stop *process.Closers, e *process.Env) (broker.Signer, error) {
	if c.SigningKey == "" {
		e.Log.Warn("no --signing-key: this broker opens no sessions for backends")
		return nil, nil
	}
	if err := c.signingFlags.check(); err != nil {
		return nil, err
	}
	keys, err := token.OpenKeySet(c.SigningKey, c.KeyOverlap, e.Log)
	if err != nil {
		return nil, process.FlagError{Flag: "--signing-key", Err: err}
	}
	stop.Add(process.Start(keys.Run))
	return keys, nil
}

func (c *brokerCmd) apiKeys(stop *process.Closers, e *process.Env) (*console.Keys, error) {
	if c.APIKeys == "" {
		return nil, nil
	}
	keys, err := console.OpenKeys(c.APIKeys, e.Log)
	if err != nil {
		return nil, process.FlagError{Flag: "--api-keys", Err: err}
	}
	stop.Add(process.Start(keys.Run))
	return keys, nil
}
