package main

// benchCmd groups what measures.
type benchCmd struct {
	Placement benchPlacementCmd `cmd:"" help:"Compare the placement policies with one that knows everything, in a simulation."`
	Memory    benchMemoryCmd    `cmd:"" help:"Measure what an idle attached session costs a node, in resident bytes."`
	Node      benchNodeCmd      `cmd:"" hidden:"" help:"The process that «bench memory» measures."`
}
