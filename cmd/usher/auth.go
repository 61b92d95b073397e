package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/usher-broker/usher/auth/credential"
	authserve "github.com/usher-broker/usher/auth/serve"
	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/broker/serve"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

type authCmd struct {
	process.GossipFlags    `embed:""`
	process.StoreFlags     `embed:""`
	signingFlags           `embed:""`
	serve.PlacementFlags   `embed:""`
	authserve.WaitingFlags `embed:""`
	process.TLSFlags       `embed:""`
	process.LimitFlags     `embed:""`

	SigningKey     string         `help:"File of the keys that sign tokens (\"usher keys signing\" makes it). Read again when it changes." required:"" type:"path" placeholder:"FILE"`
	Listen         string         `help:"Address of the login API." default:":8080" placeholder:"ADDR"`
	Ops            string         `help:"Address of the ops port, host:port or unix:PATH: /healthz, /readyz, /metrics, pprof. Keep it private." default:"127.0.0.1:0" placeholder:"ADDR"`
	Guest          bool           `help:"Accept logins under any name, without credentials (method \"guest\")."`
	Users          string         `help:"File of users and password hashes (method \"password\"); \"usher keys password\" makes its lines. Read again when it changes." type:"path" placeholder:"FILE"`
	Webhook        string         `help:"URL of your own service that checks credentials (method \"webhook\"). docs/configuration.md describes its requests." placeholder:"URL"`
	WebhookSecret  string         `name:"webhook-secret-file" help:"File of the secret that signs requests to the webhook, 16 bytes or more." type:"path" placeholder:"FILE"`
	WebhookTimeout time.Duration  `help:"Time limit for an answer of the webhook. auth sends a request twice at most." default:"1200ms" placeholder:"TIME"`
	OIDCIssuer     string         `name:"oidc-issuer" help:"OpenID Connect issuer whose ID tokens are accepted (method \"oidc\"), exactly as in its tokens." placeholder:"URL"`
	OIDCClient     []string       `name:"oidc-client" help:"Client ids of your game at the issuer. Tokens for other clients are refused." placeholder:"ID"`
	OIDCUserClaim  string         `name:"oidc-user-claim" help:"Claim that has the user's name." default:"sub" placeholder:"NAME"`
	OIDCClaims     []string       `name:"oidc-claims" help:"Claims to pass to the application, in the token's ext." placeholder:"NAME"`
	TrustedProxies []netip.Prefix `help:"Networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are used." placeholder:"CIDR"`
	Origins        []string       `help:"Origins of web pages that may call the login API, or *." default:"*" placeholder:"ORIGIN"`
}

type signingFlags struct {
	TokenTTL   time.Duration `name:"token-ttl" help:"Lifetime of a token." default:"1h" placeholder:"TIME"`
	KeyOverlap time.Duration `help:"Time between the publication of a new key and its first use, so that every node knows it by then." default:"10m" placeholder:"TIME"`
}

// minOverlap is the time that nodes need to load a new key.
const minOverlap = 10 * time.Second

func (f signingFlags) check() error {
	if f.KeyOverlap < minOverlap {
		return process.FlagError{Flag: "--key-overlap", Err: fmt.Errorf("%v: must be at least %v, so that nodes learn of a new key before it signs", f.KeyOverlap, minOverlap)}
	}
	return nil
}

func (c *authCmd) Run(ctx context.Context, e *process.Env) error {
	var stop process.Closers
	defer func() { stop.Close() }()
	stop.Add(process.Start(process.TuneCollector))
	m, err := openMember(c.GossipFlags, c.StoreFlags, &stop)
	if err != nil {
		return err
	}
	keys, err := token.OpenKeySet(c.SigningKey, c.KeyOverlap, e.Log)
	if err != nil {
		return process.FlagError{Flag: "--signing-key", Err: err}
	}
	if err := c.signingFlags.check(); err != nil {
		return err
	}
	if err := c.WaitingFlags.Check(); err != nil {
		return err
	}
	stop.Add(process.Start(keys.Run))
	providers, err := c.providers(&stop, e)
	if err != nil {
		return err
	}
	b, err := serve.Start(serve.Options{
		PlacementFlags: c.PlacementFlags, QueueLimit: c.WaitingLimit, Role: proto.RoleAuth,
		Gossip: m.gossip, GossipKeyFile: c.GossipKeyFile, Store: m.store, Signer: keys, TokenTTL: c.TokenTTL, Registry: m.registry, Logger: e.Log,
	})
	if err != nil {
		return err
	}
	stop.Add(b.Close)
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return process.FlagError{Flag: "--listen", Err: err}
	}
	limits := c.LimitFlags
	limits.UnlimitedNetworks = slices.Concat(limits.UnlimitedNetworks, c.TrustedProxies)
	login, err := authserve.Start(authserve.Options{
		Listener: ln, TLS: c.TLSFlags, Limits: &limits, Broker: b.Broker, Keys: keys, Providers: providers, Registry: m.registry,
		Failures: m.store, WaitingRoom: c.WaitingRoom, Trusted: c.TrustedProxies, Origins: c.Origins, Logger: e.Log,
	})
	if err != nil {
		return err
	}
	stop.Add(login.Close)
	ops, err := process.OpenOps(c.Ops, m.registry, b.Checks(), &stop, e.Log)
	if err != nil {
		return err
	}
	e.Log.Info("auth runs", "issuer", b.Issuer, "listen", login.Addr(), "gossip", b.Cluster.Addr(), "ops", ops.Addr())
	<-ctx.Done()
	return nil
}

func (c *authCmd) providers(stop *process.Closers, e *process.Env) (map[string]credential.Provider, error) {
	list := make(map[string]credential.Provider)
	if c.Guest {
		list["guest"] = credential.Guest{}
	}
	if c.Users != "" {
		p, err := credential.OpenPassword(c.Users, e.Log)
		if err != nil {
			return nil, process.FlagError{Flag: "--users", Err: err}
		}
		stop.Add(process.Start(p.Run))
		list["password"] = p
	}
	if c.Webhook != "" {
		p, err := c.webhook()
		if err != nil {
			return nil, err
		}
		stop.Add(p.Close)
		list["webhook"] = p
	}
	if c.OIDCIssuer != "" {
		cfg := credential.OIDCConfig{
			Issuer: c.OIDCIssuer, Clients: c.OIDCClient, UserClaim: c.OIDCUserClaim, Claims: c.OIDCClaims, Logger: e.Log,
		}
		if c.Users != "" || c.Webhook != "" {
			cfg.Prefix = "oidc:" // so that a user of the issuer cannot have the name of another provider's user
		}
		p, err := credential.NewOIDC(cfg)
		if err != nil {
			return nil, process.FlagError{Flag: "--oidc-issuer", Err: err}
		}
		stop.Add(p.Close)
		list["oidc"] = p
	}
	if len(list) == 0 {
		return nil, process.FlagError{Flag: "--users", Err: errors.New("no login method is configured: set --users, --oidc-issuer or --webhook, or allow guests with --guest")}
	}
	return list, nil
}

// maxWebhookTimeout leaves time for a second request within the time limit of a
// provider.
const maxWebhookTimeout = 1400 * time.Millisecond

func (c *authCmd) webhook() (*credential.Webhook, error) {
	if c.WebhookSecret == "" {
		return nil, process.FlagError{Flag: "--webhook-secret-file", Err: errors.New("is required with --webhook: without it anyone could send requests to your service, or answer in its place")}
	}
	if c.WebhookTimeout < 10*time.Millisecond || c.WebhookTimeout > maxWebhookTimeout {
		return nil, process.FlagError{Flag: "--webhook-timeout", Err: fmt.Errorf("%v: must be 10ms to %v", c.WebhookTimeout, maxWebhookTimeout)}
	}
	secret, err := process.ReadFile(c.WebhookSecret, 4<<10)
	if err != nil {
		return nil, process.FlagError{Flag: "--webhook-secret-file", Err: err}
	}
	p, err := credential.NewWebhook(credential.WebhookConfig{URL: c.Webhook, Secret: bytes.TrimSpace(secret), Timeout: c.WebhookTimeout})
	if err != nil {
		return nil, process.FlagError{Flag: "--webhook", Err: err}
	}
	return p, nil
}
