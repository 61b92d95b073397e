module github.com/usher-broker/usher/proto

go 1.26.0
