package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Poster sends POST requests to one server and keeps the connections. It has as many
// connections as requests at the same time. It is safe for concurrent use.
type Poster struct {
	dialer *Dialer
	base   *url.URL

	mu   sync.Mutex
	idle []*postConn
}

type postConn struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

// NewPoster returns a Poster for the base URL, which is http or https.
func NewPoster(d *Dialer, base string) (*Poster, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("not an http or https URL") // err quotes the URL and its password
	}
	return &Poster{dialer: d, base: u}, nil
}

// maxAnswer bounds how many bytes of an answer are read.
const maxAnswer = 64 << 10

// Post sends a JSON body to the path and returns the answer. header is a header line to
// send, or "".
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

func (p *Poster) take(ctx context.Context) (*postConn, error) {
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
	return &postConn{conn: conn, in: bufio.NewReaderSize(conn, 2<<10)}, nil
}

func (k *postConn) post(host, path, header string, body []byte, timeout time.Duration) (status int, answer []byte, keep bool, err error) {
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
