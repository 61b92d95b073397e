package dev

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/alecthomas/kong"

	authserve "github.com/usher-broker/usher/auth/serve"
	"github.com/usher-broker/usher/broker/process"
	brokerserve "github.com/usher-broker/usher/broker/serve"
	"github.com/usher-broker/usher/node/serve"
)

const (
	defaultAuth = "127.0.0.1:8080"
	defaultOps  = 9090 // and the next free port
	maxNodes    = 64
)

// Config is the configuration of a development cluster. Each field down to
// TokenTTL is a flag of Main as well: the tags give its meaning and its default.
type Config struct {
	serve.NodeFlags            `embed:""`
	brokerserve.PlacementFlags `embed:""`
	authserve.WaitingFlags     `embed:""`

	Nodes    int           `help:"Number of nodes." default:"3" placeholder:"N"`
	Auth     string        `help:"Address of the login API." default:"127.0.0.1:8080" placeholder:"ADDR"`
	API      string        `name:"api" help:"Address of the private API. It must be on loopback, because no key is asked for here." default:"127.0.0.1:8081" placeholder:"ADDR"`
	NodePort int           `help:"First port that the nodes try; each uses the next free one." default:"7001" placeholder:"PORT"`
	Ops      string        `help:"Address of the ops port, host:port or unix:PATH. Default: 127.0.0.1:9090, or the next free port." placeholder:"ADDR"`
	TokenTTL time.Duration `name:"token-ttl" help:"Lifetime of a token." default:"1h" placeholder:"TIME"`

	// Logger is slog.Default if nil.
	Logger *slog.Logger `kong:"-"`
	// Out is where Run writes the addresses of the cluster. nil means standard output.
	Out io.Writer `kong:"-"`
	// Wrap, if not nil, adds paths to the login API.
	Wrap func(c *Cluster, login http.Handler) http.Handler `kong:"-"`
	// Pages are paths of Wrap that Run lists.
	Pages []Page `kong:"-"`
	// TryCommand, if not empty, is a command that Run suggests.
	TryCommand string `kong:"-"`
}

// Page is a path of the login API for people.
type Page struct{ Name, Path, Note string }

func (c *Config) setDefaults() error {
	if err := kong.ApplyDefaults(c); err != nil {
		return fmt.Errorf("node/dev: %w", err)
	}
	return nil
}

func (c *Config) check() error {
	if c.Nodes < 1 || c.Nodes > maxNodes {
		return process.FlagError{Flag: "--nodes", Err: fmt.Errorf("%d: must be 1 to %d", c.Nodes, maxNodes)}
	}
	return c.WaitingFlags.Check()
}
