package transport

import (
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
)

// newJSON returns an encoder of schema v1.
func newJSON(t testing.TB) *encode.JSON {
	t.Helper()
	mapping, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst")
	if err != nil {
		t.Fatal(err)
	}
	e, err := encode.NewJSON(encode.JSONConfig{Schema: "v1", Mapping: mapping})
	if err != nil {
		t.Fatal(err)
	}
	return e
}
