//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// sink is a server that takes records by HTTP, as lines, or by OTLP over gRPC. It counts
// them and throws them away.
type sink struct {
	addr    string
	records atomic.Uint64
	named   atomic.Bool // an attribute k8s.pod.name came
	close   func()
	bodies  sync.Pool
}

// newSink returns a sink for an output of ours, "http" or "otlp".
func newSink(transport string) (*sink, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{addr: l.Addr().String()}
	if transport == "otlp" {
		// The server of Go's receivers, without their reading of messages.
		server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(s.export))
		s.close = server.Stop
		go func() { _ = server.Serve(l) }()
		return s, nil
	}
	s.bodies.New = func() any { return new(bytes.Buffer) }
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	s.close = func() { _ = server.Close() }
	go func() { _ = server.Serve(l) }()
	return s, nil
}

// ServeHTTP implements [http.Handler].
func (s *sink) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, ok := s.bodies.Get().(*bytes.Buffer)
	if !ok {
		return
	}
	defer s.bodies.Put(body)
	body.Reset()
	if _, err := io.Copy(body, r.Body); err == nil {
		s.records.Add(uint64(bytes.Count(body.Bytes(), []byte("\n"))))
	}
}

// export takes a call of gRPC, whatever it is.
func (s *sink) export(_ any, stream grpc.ServerStream) error {
	var request mem.Buffer
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	defer request.Free()
	data := request.ReadOnlyData()
	if !s.named.Load() && bytes.Contains(data, []byte("k8s.pod.name")) {
		s.named.Store(true)
	}
	s.records.Add(uint64(logRecords(data)))
	return stream.SendMsg(mem.SliceBuffer(nil)) // a response without anything
}

// rawCodec passes messages as they are.
type rawCodec struct{}

// Name implements [encoding.CodecV2].
func (rawCodec) Name() string { return "proto" }

// Marshal implements [encoding.CodecV2].
func (rawCodec) Marshal(any) (mem.BufferSlice, error) { return nil, nil }

// Unmarshal implements [encoding.CodecV2].
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	p, ok := v.(*mem.Buffer)
	if !ok {
		return fmt.Errorf("a message is %T", v)
	}
	*p = data.MaterializeToBuffer(mem.DefaultBufferPool())
	return nil
}

// logRecords counts the records of an ExportLogsServiceRequest of OpenTelemetry.
func logRecords(request []byte) (n int) {
	const resourceLogs, scopeLogs, records = 1, 2, 2
	each(request, resourceLogs, func(resource []byte) {
		each(resource, scopeLogs, func(scope []byte) {
			each(scope, records, func([]byte) { n++ })
		})
	})
	return n
}

// each calls f for each field of a message that has a number, and a length as all of
// these messages' fields have.
func each(message []byte, number uint64, f func([]byte)) {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		size, m := binary.Uvarint(message[max(n, 0):])
		if n <= 0 || m <= 0 || tag&7 != 2 || size > uint64(len(message)-n-m) {
			return
		}
		value := message[n+m : n+m+int(size)]
		if tag>>3 == number {
			f(value)
		}
		message = message[n+m+int(size):]
	}
}
