package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Poster sends requests to one server over connections that are kept, as many as
// are needed at the same time. It is safe for concurrent use.
type Poster struct {
	dialer *Dialer
	base   *url.URL

	mu   sync.Mutex
	idle []*kept
}

type kept struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

// NewPoster returns a poster to the base URL, http or https.
func NewPoster(d *Dialer, base string) (*Poster, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not an http or https URL", base)
	}
	return &Poster{dialer: d, base: u}, nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// Post sends a body of JSON to the path and returns the answer. A header line, if
// there is one, is sent as it is.
func (p *Poster) Post(ctx context.Context, path, header string, body []byte) (status int, answer []byte, err error) {
	k, err := p.take(ctx)
	if err != nil {
		return 0, nil, err
	}
	status, answer, keep, err := k.post(p.base.Host, strings.TrimSuffix(p.base.EscapedPath(), "/")+path, header, body, p.dialer.Timeout)
	if err != nil || !keep {
		k.conn.Close()
		return status, answer, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, k)
	return status, answer, nil
}

func (p *Poster) take(ctx context.Context) (*kept, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		defer p.mu.Unlock()
		k := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return k, nil
	}
	p.mu.Unlock()
	conn, err := p.dialer.Dial(ctx, p.base)
	if err != nil {
		return nil, err
	}
	return &kept{conn: conn, in: bufio.NewReaderSize(conn, 2<<10)}, nil
}

func (k *kept) post(host, path, header string, body []byte, timeout time.Duration) (status int, answer []byte, keep bool, err error) {
	if header != "" {
		header += "\r\n"
	}
	k.out = fmt.Appendf(k.out[:0], "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", path, host, header, len(body), body)
	if err := k.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return 0, nil, false, err
	}
	if _, err := k.conn.Write(k.out); err != nil {
		return 0, nil, false, err
	}
	resp, err := http.ReadResponse(k.in, nil)
	if err != nil {
		return 0, nil, false, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, answer, !resp.Close && len(answer) < maxAnswer, err
}

// Close closes the connections that are not in use.
func (p *Poster) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.idle {
		k.conn.Close()
	}
	p.idle = nil
}
