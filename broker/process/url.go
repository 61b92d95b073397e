package process

import (
	"net/url"
	"strings"
)

// RedactURL returns a URL for an error or a log, with "xxxxx" in place of its password. Of
// a text that is not a valid URL, "xxxxx" replaces everything before the last @: a
// password with a character that is not escaped may be in any part of it.
func RedactURL(raw string) string {
	if u, err := url.Parse(raw); err == nil && u.User != nil {
		return u.Redacted()
	}
	if i := strings.LastIndexByte(raw, '@'); i >= 0 {
		return "xxxxx" + raw[i:]
	}
	return raw
}
