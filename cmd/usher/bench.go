package main

// benchCmd groups what measures.
type benchCmd struct {
	Login     benchLoginCmd     `cmd:"" help:"Log in, again and again, and tell how long it takes."`
	Connect   benchConnectCmd   `cmd:"" help:"Make whole journeys: log in, attach, send the first message and hear it back."`
	Echo      benchEchoCmd      `cmd:"" help:"Have attached sessions send messages that the application sends back (--app=echo)."`
	Resume    benchResumeCmd    `cmd:"" help:"Cut all sessions, messages under way, and have them resume all at once."`
	Fanout    benchFanoutCmd    `cmd:"" help:"Have one session of each node send to all of that node (--app=fan)."`
	Soak      benchSoakCmd      `cmd:"" help:"Play with the Go SDK for long: sessions come, talk, are cut, resume and leave; nothing may be lost."`
	Memory    benchMemoryCmd    `cmd:"" help:"Measure what an idle attached session costs a node, in resident bytes."`
	Gossip    benchGossipCmd    `cmd:"" help:"Count what the members of a cluster say to each other, as it grows; all of them in this process."`
	Placement benchPlacementCmd `cmd:"" help:"Compare the placement policies with one that knows everything, in a simulation."`
	Node      benchNodeCmd      `cmd:"" hidden:"" help:"The process that «bench memory» measures."`
}
