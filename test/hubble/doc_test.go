package hubble
import (
 _ "github.com/cilium/cilium/pkg/hubble/filters"
 _ "github.com/cilium/cilium/api/v1/observer"
 _ "google.golang.org/grpc"
 _ "google.golang.org/grpc/health/grpc_health_v1"
 _ "google.golang.org/protobuf/proto"
)
