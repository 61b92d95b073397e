package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// timeout bounds each wait for a member.
const timeout = 30 * time.Second

const memberPackage = "github.com/usher-broker/usher/test/paths/member"

// counted are the packages with counters. The main package must be one of them, or
// the counters cannot be cleared; its blocks are ignored.
const counted = "github.com/usher-broker/usher/auth/...,github.com/usher-broker/usher/broker/...," +
	"github.com/usher-broker/usher/node/...,github.com/usher-broker/usher/proto/...," + memberPackage

// member is a process of the cluster.
type member struct {
	name string // "auth", or the id of the node
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
}

// role returns what the member's counters are added to.
func (m *member) role() string {
	if m.name == "auth" {
		return "auth"
	}
	return "node"
}

// call sends a command to the member and returns the value of its answer.
func (m *member) call(command string) (string, error) {
	if _, err := fmt.Fprintln(m.in, command); err != nil {
		return "", fmt.Errorf("%s: %w", m.name, err)
	}
	return m.answer()
}

func (m *member) answer() (string, error) {
	if !m.out.Scan() {
		return "", fmt.Errorf("%s has ended: %w", m.name, errors.Join(io.ErrUnexpectedEOF, m.out.Err()))
	}
	result, value, _ := strings.Cut(m.out.Text(), " ")
	if result != "ok" {
		return "", fmt.Errorf("%s: %s", m.name, m.out.Text())
	}
	return value, nil
}

// kill ends the process without notice.
func (m *member) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait() // the error says that it was killed
}

// cluster is a Redis server, an auth and nodes.
type cluster struct {
	dir     string // of all files; removed by close
	binary  string
	redis   *exec.Cmd
	auth    *member
	authURL string
	nodes   map[string]*member // those that run
}

// startCluster builds the member and starts a cluster with n nodes. It returns when
// all of them may get sessions. The caller must call close, also after an error.
func startCluster(ctx context.Context, n int) (c *cluster, err error) {
	c = &cluster{nodes: map[string]*member{}}
	if c.dir, err = os.MkdirTemp("", "usher-paths-"); err != nil {
		return c, err
	}
	c.binary = filepath.Join(c.dir, "member")
	build := exec.CommandContext(ctx, "go", "build", "-cover", "-covermode=atomic", "-coverpkg="+counted, "-o", c.binary,
		memberPackage)
	if out, err := build.CombinedOutput(); err != nil {
		return c, fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	redis, err := c.startRedis(ctx)
	if err != nil {
		return c, err
	}
	auth, ready, err := c.start(ctx, "auth", "-redis="+redis)
	if err != nil {
		return c, err
	}
	login, gossip, _ := strings.Cut(ready, " ")
	c.auth, c.authURL = auth, "http://"+login
	for i := range n {
		id := "node-" + strconv.Itoa(i+1)
		node, _, err := c.start(ctx, id, "-redis="+redis, "-node="+id, "-auth="+login, "-join="+gossip)
		if err != nil {
			return c, err
		}
		c.nodes[id] = node
	}
	return c, c.awaitNodes(n)
}

// startRedis starts a Redis server on a free port and returns its address.
func (c *cluster) startRedis(ctx context.Context) (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr := ln.Addr().String()
	ln.Close()
	_, port, _ := net.SplitHostPort(addr)
	c.redis = exec.CommandContext(ctx, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", c.dir)
	if err := c.redis.Start(); err != nil {
		c.redis = nil
		return "", fmt.Errorf("redis-server must be in the PATH: %w", err)
	}
	err = await("Redis to answer", func() (bool, error) {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false, nil
		}
		return true, conn.Close()
	})
	return "redis://" + addr + "/0", err
}

// start starts a member and returns it with the value of its first line.
func (c *cluster) start(ctx context.Context, name string, args ...string) (*member, string, error) {
	m := &member{name: name, cmd: exec.CommandContext(ctx, c.binary, args...)}
	m.cmd.Stderr = os.Stderr
	m.cmd.Env = append(os.Environ(), "GOCOVERDIR="+c.dir)
	var err error
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		return nil, "", err
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	m.out = bufio.NewScanner(out)
	if err := m.cmd.Start(); err != nil {
		return nil, "", err
	}
	ready, err := m.answer()
	if err != nil {
		m.kill()
	}
	return m, ready, err
}

// awaitNodes returns when n nodes may get sessions.
func (c *cluster) awaitNodes(n int) error {
	return await(fmt.Sprint(n, " nodes to get sessions"), func() (bool, error) {
		value, err := c.auth.call("nodes")
		return value == strconv.Itoa(n), err
	})
}

// kill kills a node.
func (c *cluster) kill(id string) {
	c.nodes[id].kill()
	delete(c.nodes, id)
}

// close kills all processes and removes their files.
func (c *cluster) close() {
	for id := range c.nodes {
		c.kill(id)
	}
	if c.auth != nil {
		c.auth.kill()
	}
	if c.redis != nil {
		_ = c.redis.Process.Kill()
		_ = c.redis.Wait()
	}
	_ = os.RemoveAll(c.dir)
}

// members returns the processes that run.
func (c *cluster) members() []*member {
	list := []*member{c.auth}
	for _, m := range c.nodes {
		list = append(list, m)
	}
	return list
}

// await calls met until it returns true.
func await(what string, met func() (bool, error)) error {
	for deadline := time.Now().Add(timeout); ; time.Sleep(20 * time.Millisecond) {
		if ok, err := met(); err != nil || ok {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %v for %s", timeout, what)
		}
	}
}
