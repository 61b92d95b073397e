package usher

import (
	"io"
	"net/http"
)

// wholeMessages returns the client with the end of its WebSockets' connections
// told in another way. The library returns io.EOF from inside a message when
// the connection ends there in order, and io.EOF is how it says that a message
// is complete: one that was cut short would be handed over and counted.
func wholeMessages(client *http.Client) *http.Client {
	own := *client
	if own.Transport == nil {
		own.Transport = http.DefaultTransport
	}
	own.Transport = wholeTransport{own.Transport}
	return &own
}

type wholeTransport struct{ http.RoundTripper }

func (t wholeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	if rwc, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = wholeBody{rwc}
	}
	return resp, nil
}

type wholeBody struct{ io.ReadWriteCloser }

func (b wholeBody) Read(p []byte) (int, error) {
	n, err := b.ReadWriteCloser.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
