package serve

import (
	"log/slog"
	"net"

	"github.com/usher-broker/usher/broker/console"
	"github.com/usher-broker/usher/broker/process"
)

// API serves the private API of the broker on the listener. rate is the number of
// requests per second for each key, negative for any. Without keys the listener must be on
// loopback. On an error API closes ln.
func (b *Broker) API(ln net.Listener, keys *console.Keys, rate int, log *slog.Logger) (*process.Server, error) {
	api, err := console.New(console.Config{Broker: b.Broker, Keys: keys, Rate: rate, Listen: ln.Addr(), Logger: log})
	if err != nil {
		ln.Close()
		return nil, err
	}
	s := process.Serve(ln, api.Handler(), log)
	s.OnClose(api.Close)
	return s, nil
}
