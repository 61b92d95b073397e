package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// call sends the commands to the server at addr, over a new connection, and returns
// the reply to the last one. It is a minimal client for a few administrative
// commands, so that this package needs no other.
func call(addr string, commands ...[]string) (reply string, err error) {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	for _, c := range commands {
		var b strings.Builder
		fmt.Fprintf(&b, "*%d\r\n", len(c))
		for _, arg := range c {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
		}
		if _, err := io.WriteString(conn, b.String()); err != nil {
			return "", err
		}
		if reply, err = readReply(r); err != nil {
			return "", err
		}
	}
	return reply, nil
}

// readReply reads a status, a number or a string. It returns an error reply as an
// error.
func readReply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, rest := line[0], strings.TrimSpace(line[1:])
	switch kind {
	case '+', ':':
		return rest, nil
	case '-':
		return "", errors.New("redis: " + rest)
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", fmt.Errorf("redis: the reply is not a string: %q", line)
		}
		text := make([]byte, n+len("\r\n"))
		_, err = io.ReadFull(r, text)
		return string(text[:n]), err
	}
	return "", fmt.Errorf("redis: unexpected reply %q", line)
}
