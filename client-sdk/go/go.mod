module github.com/usher-broker/usher/client-sdk/go

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	github.com/usher-broker/usher/proto v0.1.0
	go.uber.org/goleak v1.3.0
	pgregory.net/rapid v1.3.0
)

replace github.com/usher-broker/usher/proto => ../../proto
