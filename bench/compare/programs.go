//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// enricher is our program with a format, and further arguments.
func enricher(format string, pods int, more ...string) *program {
	return &program{
		name: "kube-enricher", file: "kube-enricher",
		args: func(b *bench, udp, http, output string) ([]string, error) {
			args := []string{"-addr", http, "-format", format, "-transport.file", output}
			if !slices.Contains(more, "-kube.off") {
				snapshot, err := b.snapshot(pods)
				if err != nil {
					return nil, err
				}
				args = append(args, "-kube.snapshot", snapshot)
			}
			if listen := "flow://" + udp; len(more) > 0 && strings.HasPrefix(more[0], "?") {
				args = append(append(args, "-listen", listen+more[0]), more[1:]...)
			} else {
				args = append(append(args, "-listen", listen), more...)
			}
			return args, nil
		},
		ready: func(p *process) bool {
			c := http.Client{Timeout: time.Second}
			defer c.CloseIdleConnections()
			resp, err := c.Get("http://" + p.http + "/readyz")
			if err != nil {
				return false
			}
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		},
		written: func(p *process) (uint64, error) {
			all, err := p.metrics()
			return uint64(metricSum(all, "kube_enricher_records_written_total", "")), err
		},
	}
}

// goflow2 is stock goflow2 with a format; it has no names to add. It counts what
// it has decoded, and its workers write that before they decode more.
func goflow2(format string) *program {
	return &program{
		name: "goflow2 -format=" + format, file: "goflow2/goflow2",
		args: func(_ *bench, udp, http, output string) ([]string, error) {
			args := []string{"-listen", "netflow://" + udp, "-addr", http, "-format", format, "-transport.file", output}
			if format == "bin" {
				args = append(args, "-transport.file.sep", "")
			}
			return args, nil
		},
		written: func(p *process) (uint64, error) {
			all, err := p.metrics()
			return uint64(metricSum(all, "goflow2_flow_process_nf_flowset_records_total", `type="DataFlowSet"`)), err
		},
		ready: func(p *process) bool { _, err := p.metrics(); return err == nil },
	}
}

// readloop only receives.
func readloop(loop string) *program {
	return &program{
		name: "read loop (" + loop + ")", file: "readloop",
		args: func(_ *bench, udp, _, _ string) ([]string, error) {
			return []string{"-listen", udp, "-loop", loop}, nil
		},
	}
}

// countFile counts the records in an output file.
func countFile(file, format string) (n uint64, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	if format == "json" {
		return uint64(bytes.Count(b, []byte("\n"))), nil
	}
	for len(b) > 0 {
		size, k := binary.Uvarint(b)
		if k <= 0 || size > uint64(len(b)-k) {
			return n, fmt.Errorf("%s: no whole message behind %d of them", file, n)
		}
		b = b[k+int(size):]
		n++
	}
	return n, nil
}

func podAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 128 + byte(i>>16), byte(i >> 8), byte(i)})
}

// snapshot returns a file with pods, four to a Deployment, of the addresses that
// the generator takes.
func (b *bench) snapshot(pods int) (string, error) {
	if file := b.snapshots[pods]; file != "" {
		return file, nil
	}
	type object = map[string]any
	items := []object{}
	for i := range pods {
		rs := fmt.Sprintf("app-%d-7d4b9c", i/4)
		namespace := fmt.Sprintf("team-%d", i/4%100)
		owner := func(kind, name, uid string) []object {
			return []object{{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}}
		}
		if i%4 == 0 {
			items = append(items, object{"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": object{
				"name": rs, "namespace": namespace, "uid": "rs-" + rs, "ownerReferences": owner("Deployment", fmt.Sprintf("app-%d", i/4), "d-"+rs)}})
		}
		items = append(items, object{"apiVersion": "v1", "kind": "Pod",
			"metadata": object{"name": fmt.Sprintf("%s-%05d", rs, i), "namespace": namespace, "uid": fmt.Sprintf("pod-%d", i),
				"ownerReferences": owner("ReplicaSet", rs, "rs-"+rs)},
			"spec": object{"nodeName": fmt.Sprintf("node-%d", i%200)},
			"status": object{"phase": "Running", "hostIP": fmt.Sprintf("172.18.%d.%d", i%200/100, i%100), "podIPs": []object{{"ip": podAddr(i).String()}},
				"startTime": "2023-11-01T00:00:00Z"}})
	}
	file := filepath.Join(b.dir, fmt.Sprintf("pods-%d.json", pods))
	content, err := json.Marshal(object{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return "", err
	}
	b.snapshots[pods] = file
	return file, nil
}
