// Paths measures which files a session's four paths cross: a login, a resume, a move
// that a drain causes, and the death of a node. It builds an auth and nodes with
// coverage counters, runs them as processes beside a Redis server, takes a client
// through each path, and prints the files whose statements ran, with their numbers.
//
//	go run ./test/paths             # the four paths
//	go run ./test/paths -limit 20   # exit with 1 if a path crosses more files
//	go run ./test/paths -least 10   # only files of which a path executes 10 statements
//
// The counters are set to zero right before a path and read right after it, so the
// start of a process does not count. What members execute anyway (gossip, reports,
// probes, pings, renewals) does not count either: a control run of the same cluster, with
// an attached client that does nothing, shows these statements, and they are subtracted
// for each role. Each path runs once before it is measured, so that caches and scripts
// are loaded. The client runs in this command and is not counted.
//
// A killed node reports nothing: the path of a death is what the auth and the other
// nodes execute.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	limit := flag.Int("limit", 0, "exit with 1 if a path crosses more files than this; 0: no limit")
	least := flag.Int("least", 1, "leave out files of which a path executes fewer statements")
	control := flag.Duration("control", 15*time.Second, "length of the control run")
	noKey := flag.Bool("nokey", false, "log in without a key, so that no request carries a proof of possession")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	reports, err := measure(ctx, *control, *noKey)
	if err != nil {
		fmt.Fprintln(os.Stderr, "paths:", err)
		os.Exit(1)
	}
	over := false
	for _, r := range reports {
		r.leaveOut(*least)
		r.print(os.Stdout)
		over = over || *limit > 0 && len(r.files) > *limit
	}
	if over {
		fmt.Fprintf(os.Stderr, "paths: a path crosses more than %d files\n", *limit)
		os.Exit(1)
	}
}
