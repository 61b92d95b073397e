module github.com/usher-broker/usher/test

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	github.com/rogpeppe/go-internal v1.16.0
	github.com/usher-broker/usher/broker v0.1.0
	github.com/usher-broker/usher/client-sdk/go v0.1.0
	github.com/usher-broker/usher/proto v0.1.0
	go.uber.org/goleak v1.3.0
	pgregory.net/rapid v1.3.0
)

require (
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/tools v0.26.0 // indirect
)

replace github.com/usher-broker/usher/proto => ../proto

replace github.com/usher-broker/usher/broker => ../broker

replace github.com/usher-broker/usher/auth => ../auth

replace github.com/usher-broker/usher/node => ../node

replace github.com/usher-broker/usher/client-sdk/go => ../client-sdk/go

replace github.com/usher-broker/usher/cmd/usher => ../cmd/usher
