package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/usher-broker/usher/auth/credential"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

type authCmd struct {
	gossipFlags  `embed:""`
	storeFlags   `embed:""`
	signingFlags `embed:""`
	placingFlags `embed:""`
	waitingFlags `embed:""`
	tlsFlags     `embed:""`
	limitFlags   `embed:""`

	SigningKey     string         `help:"File of the keys that sign tokens («usher keys signing» makes it). Read again when it changes." required:"" type:"path" placeholder:"FILE"`
	Listen         string         `help:"Address of the login door." default:":8080" placeholder:"ADDR"`
	Ops            string         `help:"Address of the ops door, host:port or unix:PATH: /healthz, /readyz, /metrics, pprof. Keep it private." default:"127.0.0.1:0" placeholder:"ADDR"`
	Guest          bool           `help:"Let anybody in under any name (method «guest»)."`
	Users          string         `help:"File of users and password hashes (method «password»); «usher keys password» makes its lines. Read again when it changes." type:"path" placeholder:"FILE"`
	Webhook        string         `help:"URL of your own service that checks credentials (method «webhook»): docs/configuration.md says what it is asked." placeholder:"URL"`
	WebhookSecret  string         `name:"webhook-secret-file" help:"File of the secret that requests to it are signed with, 16 bytes or more." type:"path" placeholder:"FILE"`
	WebhookTimeout time.Duration  `help:"Time that it has for an answer; it is asked twice at most." default:"1200ms" placeholder:"TIME"`
	OIDCIssuer     string         `name:"oidc-issuer" help:"OpenID Connect issuer whose ID tokens are taken (method «oidc»), as it names itself." placeholder:"URL"`
	OIDCClient     []string       `name:"oidc-client" help:"Client ids of your game at the issuer: tokens for others are refused." placeholder:"ID"`
	OIDCUserClaim  string         `name:"oidc-user-claim" help:"Claim that names the user." default:"sub" placeholder:"NAME"`
	OIDCClaims     []string       `name:"oidc-claims" help:"Claims that the application is told, in the token's ext." placeholder:"NAME"`
	TrustedProxies []netip.Prefix `help:"Networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed." placeholder:"CIDR"`
	Origins        []string       `help:"Origins of web pages that may call the login door, or *." default:"*" placeholder:"ORIGIN"`
}

// signingFlags are the flags of every process that may sign tokens.
type signingFlags struct {
	TokenTTL   time.Duration `name:"token-ttl" help:"Lifetime of a token." default:"1h" placeholder:"TIME"`
	KeyOverlap time.Duration `help:"Time between a new key being published and being used, so that every node knows it by then." default:"10m" placeholder:"TIME"`
}

// waitingFlags say what becomes of logins when every node is full.
type waitingFlags struct {
	WaitingRoom  bool `help:"Have logins wait for their turn when every node is full, instead of refusing them. The same on every auth."`
	WaitingLimit int  `help:"Logins that may wait in one line." default:"100000" placeholder:"N"`
}

func (f waitingFlags) check() error {
	if f.WaitingLimit < 1 || f.WaitingLimit > 10_000_000 {
		return usageError{"--waiting-limit", fmt.Errorf("%d: must be 1 to 10000000", f.WaitingLimit)}
	}
	return nil
}

// minOverlap is how long a node may take to learn of a new key: it asks for
// keys it does not know at most once in this time.
const minOverlap = 10 * time.Second

func (f signingFlags) check() error {
	if f.KeyOverlap < minOverlap {
		return usageError{"--key-overlap", fmt.Errorf("%v: must be at least %v, for nodes to learn of a new key before it signs", f.KeyOverlap, minOverlap)}
	}
	return nil
}

func (c *authCmd) Run(ctx context.Context, e *env) error {
	tuneCollector(ctx)
	var stop closers
	defer func() { stop.close() }()
	m, err := openMember(c.gossipFlags, c.storeFlags, &stop)
	if err != nil {
		return err
	}
	keys, err := token.OpenKeySet(c.SigningKey, c.KeyOverlap, e.log)
	if err != nil {
		return usageError{"--signing-key", err}
	}
	if err := c.signingFlags.check(); err != nil {
		return err
	}
	if err := c.waitingFlags.check(); err != nil {
		return err
	}
	stop.add(runUntilStop(keys.Run))
	providers, err := c.providers(&stop, e)
	if err != nil {
		return err
	}
	b, err := startBroker(brokerOptions{
		placingFlags: c.placingFlags, waitingLimit: c.WaitingLimit,
		role: proto.RoleAuth, gossip: m.gossip, keyFile: m.keyFile, store: m.store, signer: keys, tokenTTL: c.TokenTTL, registry: m.registry, log: e.log,
	})
	if err != nil {
		return err
	}
	stop.add(b.close)
	limit := c.limitFlags
	limit.UnlimitedNetworks = slices.Concat(limit.UnlimitedNetworks, c.TrustedProxies)
	door, err := startAuth(authOptions{
		listen: c.Listen, tls: c.tlsFlags, limit: &limit, broker: b, keys: keys, providers: providers, registry: m.registry,
		failures: m.store, waiting: c.WaitingRoom, trusted: c.TrustedProxies, origins: c.Origins, log: e.log,
	})
	if err != nil {
		return err
	}
	stop.add(door.close)
	ops, err := m.openOps(c.Ops, b.checks(), &stop, e.log)
	if err != nil {
		return err
	}
	e.log.Info("auth runs", "issuer", b.issuer, "listen", door.http.addr(), "gossip", b.cluster.Addr(), "ops", ops.addr())
	waitDone(ctx)
	return nil
}

func (c *authCmd) providers(stop *closers, e *env) (map[string]credential.Provider, error) {
	list := make(map[string]credential.Provider)
	if c.Guest {
		list["guest"] = credential.Guest{}
	}
	if c.Users != "" {
		p, err := credential.OpenPassword(c.Users, e.log)
		if err != nil {
			return nil, usageError{"--users", err}
		}
		stop.add(runUntilStop(p.Run))
		list["password"] = p
	}
	if c.Webhook != "" {
		p, err := c.webhook()
		if err != nil {
			return nil, err
		}
		stop.add(p.Close)
		list["webhook"] = p
	}
	if c.OIDCIssuer != "" {
		cfg := credential.OIDCConfig{
			Issuer: c.OIDCIssuer, Clients: c.OIDCClient, UserClaim: c.OIDCUserClaim, Claims: c.OIDCClaims, Logger: e.log,
		}
		if c.Users != "" || c.Webhook != "" {
			cfg.Prefix = "oidc:" // or one of the issuer's users could pass as one of theirs
		}
		p, err := credential.NewOIDC(cfg)
		if err != nil {
			return nil, usageError{"--oidc-issuer", err}
		}
		stop.add(p.Close)
		list["oidc"] = p
	}
	if len(list) == 0 {
		return nil, usageError{"--users", fmt.Errorf("nobody could log in: name a users file, an --oidc-issuer or a --webhook, or switch guests on with --guest")}
	}
	return list, nil
}

// maxWebhookTimeout leaves room for a second try within what auth gives a
// provider.
const maxWebhookTimeout = 1400 * time.Millisecond

func (c *authCmd) webhook() (*credential.Webhook, error) {
	if c.WebhookSecret == "" {
		return nil, usageError{"--webhook-secret-file", errors.New("is required with --webhook: without it anybody could ask, and answer")}
	}
	if c.WebhookTimeout < 10*time.Millisecond || c.WebhookTimeout > maxWebhookTimeout {
		return nil, usageError{"--webhook-timeout", fmt.Errorf("%v: must be 10ms to %v", c.WebhookTimeout, maxWebhookTimeout)}
	}
	secret, err := readSmall(c.WebhookSecret, 4<<10)
	if err != nil {
		return nil, usageError{"--webhook-secret-file", err}
	}
	p, err := credential.NewWebhook(credential.WebhookConfig{URL: c.Webhook, Secret: bytes.TrimSpace(secret), Timeout: c.WebhookTimeout})
	if err != nil {
		return nil, usageError{"--webhook", err}
	}
	return p, nil
}
