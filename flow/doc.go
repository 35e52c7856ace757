// Package flow holds what the other packages hand to each other: the decoded
// [Record], the Kubernetes [Object] that owns one of its addresses, and the two tables
// of fields, [Fields] (field.go) and [Attrs] (attr.go). It knows nothing of sockets,
// clusters or outputs.
//
// "go generate ./flow" makes accessors_gen.go, flow.proto, its Go code flowpb, and
// fields_gen.go of internal/encode from the tables. flow.proto is the protobuf form of a
// record. Its code is registered as kube-enricher/flow/flow.proto: Cilium's API, which the program
// uses, too, has a flow/flow.proto of its own.
package flow

//go:generate go run generate.go
//go:generate go build -o ../bin/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
//go:generate protoc -I kube-enricher=.. --plugin=../bin/protoc-gen-go --go_out=.. --go_opt=module=github.com/netobserv/goflow2-kube-enricher kube-enricher/flow/flow.proto
