//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// memory returns what the process has in memory now and had at most, in MB.
func (p *process) memory() (now, most float64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "VmRSS:":
			now = kb * 1024 / 1e6
		case "VmHWM:":
			most = kb * 1024 / 1e6
		}
	}
	return now, most
}

// ours measures what a record costs our program under a load, and what memory it
// takes.
func ours(format string, l load, more ...string) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		l := l
		l.seconds = b.seconds
		if l.pods == 0 {
			l.pods = b.pods
		}
		p := enricher(format, l.pods, more...)
		var costs, now, most []float64
		b.look = func(run *process) {
			n, m := run.memory()
			now, most = append(now, n), append(most, m)
		}
		defer func() { b.look = nil }()
		for range b.repeat {
			v, err := b.cost(ctx, p, l)
			if err != nil {
				return result{}, err
			}
			costs = append(costs, v)
		}
		return result{
			measured: fmt.Sprintf("%.2f µs a record, %.0f MB", median(costs), median(now)),
			runs:     fmt.Sprintf("%s µs; %.0f MB at most; %d runs", spread(costs), median(most), b.repeat),
		}, nil
	}
}

// growthCases show how cost and memory grow.
func growthCases() []benchCase {
	ovs := load{protocol: "ipfix", records: 25, rate: 50_000}
	var cases []benchCase
	add := func(name, title string, run func(context.Context, *bench) (result, error)) {
		cases = append(cases, benchCase{name: name, title: title, run: run})
	}
	for _, n := range []int{1000, 10_000, 50_000, 150_000, 200_000} {
		l := ovs
		l.pods = n
		add(fmt.Sprintf("pods-%d", n), fmt.Sprintf("%d pods", n), ours("json", l))
	}
	for _, n := range []int{1, 100, 1000} {
		l := ovs
		l.sources = n
		add(fmt.Sprintf("exporters-%d", n), fmt.Sprintf("%d exporters", n), ours("json", l))
	}
	for _, f := range []struct {
		name, format, title string
		args                []string
	}{
		{"few", "json", "JSON, 8 fields", []string{"-fields", "SrcAddr,DstAddr,SrcPort,DstPort,Proto,Bytes,Packets,PPod"}},
		{"v1", "json", "JSON, v1", nil},
		{"all", "json", "JSON, v1, all fields", []string{"-fields", "all"}},
		{"v2", "json", "JSON, v2", []string{"-schema", "v2"}},
		{"netobserv", "json", "JSON, netobserv", []string{"-schema", "netobserv"}},
		{"protobuf", "protobuf", "protobuf", nil},
		{"no-traffic", "json", "JSON, v1, without traffic metrics", []string{"-metrics.workloads", "0"}},
		{"no-names", "json", "JSON, v1, without names", []string{"-kube.off"}},
	} {
		add("fields-"+f.name, f.title, ours(f.format, ovs, f.args...))
	}
	for _, p := range []struct {
		name    string
		records int
	}{{"v5", 25}, {"v9", 25}, {"ipfix", 25}, {"ipfix", 10}, {"ipfix", 1}, {"sflow", 7}, {"sflow", 1}} {
		l := load{protocol: p.name, records: p.records, rate: 50_000}
		add(fmt.Sprintf("protocol-%s-%d", p.name, p.records), fmt.Sprintf("%s, %d a datagram", p.name, p.records), ours("json", l))
	}
	return cases
}
