package token

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// httpPace fetches several times within the overlap of a rotation, so that a new key is
// known here before it signs.
var httpPace = pace{refresh: 5 * time.Minute, unknown: 10 * time.Second, retry: 500 * time.Millisecond, wait: 3 * time.Second}

var filePace = pace{refresh: fileInterval, unknown: fileInterval, retry: fileInterval, wait: time.Second}

const fetchTimeout = 5 * time.Second

// OpenJWKS follows the JWK Set at an http or https URL, or in a file, until Close is
// called or ctx is done. It does not wait for the first answer of a URL: until then,
// PublicKey waits for a few seconds and returns ErrUnavailable. OpenJWKS returns an
// error if a file does not exist or is not valid.
func OpenJWKS(ctx context.Context, urlOrFile string, log *slog.Logger) (*JWKS, error) {
	if !strings.HasPrefix(urlOrFile, "http://") && !strings.HasPrefix(urlOrFile, "https://") {
		if strings.Contains(urlOrFile, "://") {
			return nil, errors.New("token keys: a URL must begin with http:// or https://")
		}
		return openJWKSFile(ctx, urlOrFile, log)
	}
	u, err := url.Parse(urlOrFile)
	if err != nil {
		return nil, errors.New("token keys: not a valid URL") // err quotes the URL and its password
	}
	if u.Host == "" {
		return nil, fmt.Errorf("token keys: the URL %q names no host", u.Redacted())
	}
	return newJWKS(ctx, httpSource(u), httpPace, log), nil
}

func openJWKSFile(ctx context.Context, path string, log *slog.Logger) (*JWKS, error) {
	load := func(context.Context) ([]byte, error) { return readSet(path) }
	if _, err := (&JWKS{load: load}).read(ctx); err != nil {
		return nil, fmt.Errorf("token keys: %s: %w", path, err)
	}
	return newJWKS(ctx, load, filePace, log), nil
}

func readSet(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSetBytes+1))
}

func httpSource(u *url.URL) func(context.Context) ([]byte, error) {
	client := &http.Client{
		// Each fetch makes a new connection: fetches are rare, and an idle
		// connection would stay open after Close.
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: fetchTimeout},
		Timeout:   fetchTimeout,
	}
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, err
		}
		// A fetch because of a new key must not be answered with the old keys by
		// a cache on the way.
		req.Header.Set("Cache-Control", "no-cache")
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: answered %s", u.Redacted(), resp.Status)
		}
		return io.ReadAll(io.LimitReader(resp.Body, maxSetBytes+1))
	}
}
