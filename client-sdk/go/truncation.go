package usher

import (
	"io"
	"net/http"
)

// detectTruncation returns a copy of the client whose WebSocket connections end
// with io.ErrUnexpectedEOF instead of io.EOF. The WebSocket library uses io.EOF for
// the end of a message, and also returns the io.EOF of a connection that ends within
// a message: a truncated message would be delivered and counted.
func detectTruncation(client *http.Client) *http.Client {
	own := *client
	if own.Transport == nil {
		own.Transport = http.DefaultTransport
	}
	own.Transport = eofTransport{own.Transport}
	return &own
}

type eofTransport struct{ http.RoundTripper }

func (t eofTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	if rwc, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = eofBody{rwc}
	}
	return resp, nil
}

type eofBody struct{ io.ReadWriteCloser }

func (b eofBody) Read(p []byte) (int, error) {
	n, err := b.ReadWriteCloser.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
