package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// probe reports whether something that speaks HTTP answers at a node's URL, as
// it would answer a client. A node answers 426 to a request that is no
// handshake; a page that is not found or a gateway that has lost its node does
// not.
func probe(ctx context.Context, url string) error {
	scheme, rest, _ := strings.Cut(url, "://")
	switch scheme {
	case "ws":
		scheme = "http"
	case "wss":
		scheme = "https"
	default:
		return fmt.Errorf("%q is not a ws or wss URL", url)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+rest, nil)
	if err != nil {
		return err
	}
	resp, err := probeTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired {
		return errors.New("answered " + resp.Status)
	}
	return nil
}

// probeTransport keeps no connection: the next probe is to tell whether a new
// one can be made.
var probeTransport = &http.Transport{DisableKeepAlives: true, Proxy: nil}
