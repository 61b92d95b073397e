package process

import "testing"

func TestRedactURL(t *testing.T) {
	for in, want := range map[string]string{
		"http://127.0.0.1:8081":             "http://127.0.0.1:8081",
		"http://ada:s3cret@host/path":       "http://ada:xxxxx@host/path",
		"http://ada@host":                   "http://ada@host",
		"ada:s3cret@host":                   "xxxxx@host",
		"http://ada:s3/cret@host":           "xxxxx@host",
		"http://ada:12/s3cret@host":         "xxxxx@host",
		"http://ada:s3cret%zz@host":         "xxxxx@host",
		"http://ada:s3cret@host:port":       "xxxxx@host:port",
		"http://ada:s3cret@a@host and more": "xxxxx@host and more",
		"nowhere:http:80":                   "nowhere:http:80",
		"":                                  "",
	} {
		if got := RedactURL(in); got != want {
			t.Errorf("%s is shown as %s, want %s", in, got, want)
		}
	}
}
