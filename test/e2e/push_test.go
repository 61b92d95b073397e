package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// TestPush sends messages to a session by the private API, each twice with one
// idempotency key, while its node stops and the session moves. Each message must
// arrive once, in the order in which the API first accepted them.
func TestPush(t *testing.T) {
	c := startCluster(t, 2)
	api := c.startBroker()
	api.awaitEligible(2)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, err := usher.Connect(ctx, usher.Config{Auth: c.url(""), Credentials: usher.Guest("ada")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(ctx)
	url := "http://" + api.listen + "/v1/sessions/" + s.SessionID() + "/messages"
	const many = 100
	before := s.Node()
	for i := range many {
		if i == 0 {
			c.nodes[before].terminate()
		}
		for range 2 { // as a backend repeats a push whose answer it did not get
			await(t, "a push", 20*time.Second, func() bool {
				return pushStatus(t, url, fmt.Sprint("key-", i), fmt.Sprintf(`{"text":"%d"}`, i)) == http.StatusOK
			})
		}
		time.Sleep(20 * time.Millisecond)
	}
	for i := range many {
		m, err := s.Receive(ctx)
		if err != nil || string(m.Data) != fmt.Sprint(i) {
			t.Fatalf("got %q, %v, want %d", m.Data, err, i)
		}
	}
	await(t, "the session to be on the other node", 30*time.Second, func() bool { return s.Node() != before })
	unattached := c.mustLogin("bob")
	for path, want := range map[string]int{
		"sessions/" + unattached.Session:         http.StatusConflict,
		"sessions/00.aaaaaaaaaaaaaaaaaaaaaaaaaa": http.StatusNotFound,
		"users/nobody":                           http.StatusNotFound,
		"users/ada":                              http.StatusOK,
	} {
		if got := pushStatus(t, "http://"+api.listen+"/v1/"+path+"/messages", "", `{"text":"last"}`); got != want {
			t.Errorf("a message to %s: status %d, want %d", path, got, want)
		}
	}
	if m, err := s.Receive(ctx); err != nil || string(m.Data) != "last" {
		t.Errorf("got %q, %v", m.Data, err)
	}
	request(t, http.MethodDelete, "http://"+api.listen+"/v1/sessions/"+unattached.Session)
	if got := pushStatus(t, "http://"+api.listen+"/v1/sessions/"+unattached.Session+"/messages", "", `{"text":"x"}`); got != http.StatusGone {
		t.Errorf("a message to a session that has ended: status %d, want 410", got)
	}
}

// pushStatus posts a message and returns the status code.
func pushStatus(t testing.TB, url, key, body string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := web.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer drain(resp)
	return resp.StatusCode
}
