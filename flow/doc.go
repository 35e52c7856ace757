// Package flow holds what the other packages hand to each other: the decoded
// [Record], the Kubernetes [Object] that owns one of its addresses, and the one
// table of fields from which encoders, the mapping and the documentation are
// made. It knows nothing of sockets, clusters or outputs.
//
// flow.proto is the protobuf form of a record, flowpb its generated code.
package flow

//go:generate go run generate.go
//go:generate go build -o ../bin/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
//go:generate protoc -I .. --plugin=../bin/protoc-gen-go --go_out=.. --go_opt=module=github.com/netobserv/goflow2-kube-enricher flow/flow.proto
