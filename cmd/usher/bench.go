package main

// benchCmd groups what measures.
type benchCmd struct {
	Memory benchMemoryCmd `cmd:"" help:"Measure what an idle attached session costs a node, in resident bytes."`
	Node   benchNodeCmd   `cmd:"" hidden:"" help:"The process that «bench memory» measures."`
}
