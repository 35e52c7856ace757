//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// otelcol compares ours, by OTLP, with OpenTelemetry's collector, which "make bench-otelcol"
// builds: its netflow receiver, the processor that adds names of pods, and its exporter of OTLP,
// with batches as large as ours and without compression. It asks a server of this program for
// the same pods. With named, other processors give each record a resource with the source's
// address, by which that processor finds the pod; else it has nothing to find one by. The rate
// is the highest of some at which no record was lost.
func otelcol(least float64, named bool) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		if _, err := os.Stat(filepath.Join(b.bin, "otelcol")); errors.Is(err, fs.ErrNotExist) {
			return result{measured: "not built: make bench-otelcol"}, nil
		}
		pods, err := b.servePods()
		if err != nil {
			return result{}, err
		}
		defer pods.close()
		l := load{protocol: "ipfix", records: 25, seconds: b.seconds, pods: b.pods}
		cost := func(program func(*sink) *program, names bool) (float64, error) {
			s, err := newSink("otlp")
			if err != nil {
				return 0, err
			}
			defer s.close()
			v, err := b.cost(ctx, program(s), l)
			if err == nil && s.named.Load() != names {
				err = fmt.Errorf("records have names of pods: %t, want %t", s.named.Load(), names)
			}
			return v, err
		}
		var us, them []float64
		for _, l.rate = range []float64{50_000, 20_000, 10_000} {
			us, them, err = b.turns(ctx, func() (float64, error) {
				return cost(func(s *sink) *program { return sender(s, "otlp", b.pods) }, true)
			}, func() (float64, error) {
				return cost(func(s *sink) *program { return collector(s, pods, named) }, named)
			})
			if !errors.Is(err, errLost) {
				break
			}
		}
		if err != nil {
			return result{}, err
		}
		ratio := median(them) / median(us)
		return result{
			measured: fmt.Sprintf("%.1f× less", ratio), met: met(ratio >= least),
			runs: fmt.Sprintf("ours %s µs, the collector %s µs; %d pairs at %.0f records/s", spread(us), spread(them), b.repeat, l.rate),
		}, nil
	}
}

// collector is OpenTelemetry's collector, which sends to a sink.
func collector(s *sink, pods *podServer, named bool) *program {
	processors := "k8sattributes"
	if named {
		processors = "attributes, groupbyattrs, k8sattributes"
	}
	return &program{
		name: "OpenTelemetry's collector", file: "otelcol",
		args: func(b *bench, udp, _, _ string) ([]string, error) {
			s.records.Store(0)
			_, port, err := net.SplitHostPort(udp)
			if err != nil {
				return nil, err
			}
			config := fmt.Sprintf(`
receivers:
  netflow: {scheme: netflow, hostname: 127.0.0.1, port: %s, sockets: 1, workers: 2, queue_size: 100000}
processors:
  attributes: {actions: [{action: insert, key: k8s.pod.ip, from_attribute: source.address}]}
  groupbyattrs: {keys: [k8s.pod.ip]}
  k8sattributes:
    auth_type: kubeConfig
    wait_for_metadata: true
    wait_for_metadata_timeout: 60s
    extract: {metadata: [k8s.namespace.name, k8s.pod.name, k8s.deployment.name, k8s.node.name]}
    pod_association: [{sources: [{from: resource_attribute, name: k8s.pod.ip}]}]
exporters:
  otlp:
    endpoint: %s
    compression: none
    tls: {insecure: true}
    sending_queue: {queue_size: 100000, batch: {flush_timeout: 1s, min_size: 4000}}
service:
  telemetry: {metrics: {level: none}, logs: {level: warn}}
  pipelines:
    logs: {receivers: [netflow], processors: [%s], exporters: [otlp]}
`, port, s.addr, processors)
			file := filepath.Join(b.dir, "otelcol.yaml")
			return []string{"--config", file}, os.WriteFile(file, []byte(config), 0o600)
		},
		environment: []string{"KUBECONFIG=" + pods.kubeconfig},
		started:     func(p *process) error { return growBuffer(p, collectorBuffer) },
		settled:     s.settled,
		written:     func(*process) (uint64, error) { return s.records.Load(), nil },
	}
}

// collectorBuffer is the receive buffer that the collector gets, in bytes: that of ours. Its
// receiver has no setting for it, and loses datagrams with the kernel's default.
const collectorBuffer = 8 << 20

// growBuffer sets the receive buffer of a program's socket from outside, as net.core.rmem_default
// would at its start, but of no other program's. Without privileges it is net.core.rmem_max at most.
func growBuffer(p *process, size int) error {
	lines := socketLines(p.udp)
	if len(lines) != 1 {
		return fmt.Errorf("%d sockets are bound to %s", len(lines), p.udp)
	}
	const inode = 9 // of the fields
	dir := fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		number, err := strconv.Atoi(f.Name())
		if err != nil {
			return err
		}
		if what, _ := os.Readlink(filepath.Join(dir, f.Name())); what != "socket:["+lines[0][inode]+"]" {
			continue
		}
		process, err := unix.PidfdOpen(p.cmd.Process.Pid, 0)
		if err != nil {
			return os.NewSyscallError("pidfd_open", err)
		}
		defer unix.Close(process)
		fd, err := unix.PidfdGetfd(process, number, 0)
		if err != nil {
			return os.NewSyscallError("pidfd_getfd", err)
		}
		defer unix.Close(fd)
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) == nil {
			return nil
		}
		return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size))
	}
	return fmt.Errorf("no file of the program is the socket of %s", p.udp)
}

// podServer answers clients of Kubernetes with the objects of the snapshot, which never change.
type podServer struct {
	lists      map[string][]byte // by path
	kubeconfig string            // a file
	close      func()
}

// servePods starts a server of the benchmark's pods.
func (b *bench) servePods() (*podServer, error) {
	file, err := b.snapshot(b.pods)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []map[string]any `json:"items"`
	}
	if err := json.Unmarshal(content, &list); err != nil {
		return nil, err
	}
	items := map[string][]map[string]any{"Pod": {}, "ReplicaSet": {}, "Namespace": {}, "Node": {}, "Deployment": {}}
	for _, o := range list.Items {
		kind, _ := o["kind"].(string)
		if status, ok := o["status"].(map[string]any); ok { // what the API has besides
			if ips, ok := status["podIPs"].([]any); ok && len(ips) > 0 {
				status["podIP"] = ips[0].(map[string]any)["ip"]
			}
		}
		delete(o, "kind")
		delete(o, "apiVersion")
		items[kind] = append(items[kind], o)
	}
	s := &podServer{lists: make(map[string][]byte)}
	for kind, at := range map[string][2]string{
		"Pod": {"/api/v1/pods", "v1"}, "Namespace": {"/api/v1/namespaces", "v1"}, "Node": {"/api/v1/nodes", "v1"},
		"ReplicaSet": {"/apis/apps/v1/replicasets", "apps/v1"}, "Deployment": {"/apis/apps/v1/deployments", "apps/v1"},
	} {
		if s.lists[at[0]], err = json.Marshal(map[string]any{"kind": kind + "List", "apiVersion": at[1], "metadata": map[string]any{"resourceVersion": "1"}, "items": items[kind]}); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	s.close = func() { _ = server.Close() }
	go func() { _ = server.Serve(l) }()
	s.kubeconfig = filepath.Join(b.dir, "kubeconfig")
	config := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
		"clusters": [{"name": "c", "cluster": {"server": "http://%s"}}], "users": [{"name": "u", "user": {}}]}`, l.Addr())
	return s, os.WriteFile(s.kubeconfig, []byte(config), 0o600)
}

// ServeHTTP implements [http.Handler]: lists, and watches in which nothing happens.
func (s *podServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	list, known := s.lists[r.URL.Path]
	switch q := r.URL.Query(); {
	case !known:
		http.Error(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}`, http.StatusNotFound)
	case q.Get("sendInitialEvents") == "true": // a client lists then
		http.Error(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}`, http.StatusUnprocessableEntity)
	case q.Has("watch"):
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	default:
		_, _ = w.Write(list)
	}
}
