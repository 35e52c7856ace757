package main

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
)

// asked returns the UUIDs of flows.
func asked(list []*flowpb.Flow) (ids []string) {
	for _, f := range list {
		ids = append(ids, f.GetUuid())
	}
	return ids
}

// checkOrder asks for the first and the last flows, with and without follow. All are in the order
// of their times, and the answers are parts of them.
func checkOrder(t *testing.T, c observerpb.ObserverClient, records int) {
	t.Helper()
	list := hubbleFlows(t, c, &observerpb.GetFlowsRequest{})
	if len(list) != records || !slices.IsSortedFunc(list, func(a, b *flowpb.Flow) int { return a.GetTime().AsTime().Compare(b.GetTime().AsTime()) }) {
		t.Errorf("%d flows of %d, or not in order", len(list), records)
	}
	all := asked(list)
	for _, n := range []int{1, 5, records / 3, records / 2, records * 3 / 4, records - 1, records, records + 1} {
		want := min(n, records)
		if got := asked(hubbleFlows(t, c, &observerpb.GetFlowsRequest{Number: uint64(n)})); !slices.Equal(got, all[records-want:]) {
			t.Errorf("the last %d are %d others", n, len(got))
		}
		if got := asked(hubbleFlows(t, c, &observerpb.GetFlowsRequest{Number: uint64(n), First: true})); !slices.Equal(got, all[:want]) {
			t.Errorf("the first %d are %d others", n, len(got))
		}
		if got := followed(t, c, n, want); !slices.Equal(got, all[records-want:]) {
			t.Errorf("who follows from the last %d gets %d others", n, len(got))
		}
	}
}

// followed follows from the last flows, and returns those that come, of which some are wanted.
func followed(t *testing.T, c observerpb.ObserverClient, last, want int) (ids []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := c.GetFlows(ctx, &observerpb.GetFlowsRequest{Number: uint64(last), Follow: true})
	for len(ids) < want && err == nil {
		var resp *observerpb.GetFlowsResponse
		resp, err = stream.Recv()
		ids = append(ids, resp.GetFlow().GetUuid())
	}
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// TestLateCaptures: the flows of captures come in the order of their times, whichever capture is
// read first.
func TestLateCaptures(t *testing.T) {
	const records = 2008
	addr := freeAddr(t)
	p := startProgram(t, "-hubble.addr", addr, "-kube.off", "-transport.file", "/dev/null", captureDir+"/softflowd-v9.pcap", captureDir+"/pmacctd-v10.pcap")
	c := hubbleClient(t, addr)
	p.eventually("all records", func() bool {
		st, err := c.ServerStatus(t.Context(), &observerpb.ServerStatusRequest{})
		return err == nil && st.GetNumFlows() == records
	})
	checkOrder(t, c, records)
}

// TestLateTemplate: records that waited for their template have the time at which they were
// received, and are where it belongs, in Hubble's API and in the page's.
func TestLateTemplate(t *testing.T) {
	const held, others = 10, 20
	flows, metrics, hubble, ui := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)
	p := startProgram(t, "-listen", "flow://"+flows+"?count=1", "-addr", metrics, "-hubble.addr", hubble, "-ui.addr", ui, "-kube.off", "-transport.file", "/dev/null")
	p.eventually("it listens", func() bool { s, _ := state(t, "http://"+metrics); return s == "ready" })
	conn, err := net.Dial("udp", flows)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send := func(b []byte, what, name string, n float64) {
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		p.eventually(what, func() bool {
			text, _ := get(t, "http://"+metrics+"/metrics")
			return metric(text, name, "") == n
		})
	}
	template, data := benchMessages("ipfix", 0, held, benchPods)
	_, v5 := benchMessages("v5", held, others, benchPods)
	send(data, "a set is held", "kube_enricher_sets_held", 1)
	send(v5, "records are received", "kube_enricher_records_received_total", others)
	send(template, "those that were held, too", "kube_enricher_records_received_total", held+others)
	c := hubbleClient(t, hubble)
	p.eventually("all records", func() bool {
		st, err := c.ServerStatus(t.Context(), &observerpb.ServerStatusRequest{})
		return err == nil && st.GetNumFlows() == held+others
	})
	checkOrder(t, c, held+others)
	var answer struct{ Flows []struct{ Type string } }
	getJSON(t, "http://"+ui+"/api/v1/flows?limit=25", &answer)
	for i, f := range answer.Flows {
		if want := i < others; (f.Type == "NETFLOW_V5") != want {
			t.Errorf("record %d of the newest is of %s", i, f.Type)
		}
	}
	if n := len(answer.Flows); n != 25 {
		t.Errorf("%d records", n)
	}
}
