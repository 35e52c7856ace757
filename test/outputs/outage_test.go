//go:build outputs

package outputs

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// outage is how long a receiver is away: what the variable OUTAGE says, such as 30s.
func outage(t *testing.T) time.Duration {
	t.Helper()
	v := os.Getenv("OUTAGE")
	if v == "" {
		return 5 * time.Second
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		t.Fatalf("OUTAGE: %v", err)
	}
	return d
}

// balance is what became of the records of a run, by the program's own metrics.
// Down is how many had been sent when the receiver was gone.
type balance struct{ sent, down, kernel, received, written, full, failed int }

// endure sends 20,000 records a second, ends the receiver by a signal, and starts it again after a while.
// It returns when the program holds no records any more and has stopped.
func endure(t *testing.T, s *server, sig os.Signal, args ...string) balance {
	t.Helper()
	const (
		rate   = 20_000
		around = 5 * time.Second // before and after
	)
	away := outage(t)
	c := collect(t, args...)
	conn, err := net.Dial("udp", c.flows)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var b balance
	var sent atomic.Int64
	began, killed, started := time.Now(), false, make(chan struct{})
	for now := began; now.Sub(began) < 2*around+away; now = <-tick.C {
		elapsed := now.Sub(began)
		for first := sent.Load(); float64(first) < elapsed.Seconds()*rate; first = sent.Add(perDatagram) {
			if _, err := conn.Write(datagram(int(first), now)); err != nil {
				t.Fatal(err)
			}
		}
		if elapsed > around && !killed {
			killed = true
			go func() {
				defer close(started)
				s.stop(sig)
				b.down = int(sent.Load())
				time.Sleep(away)
				s.start(t)
			}()
		}
	}
	<-started
	b.sent = int(sent.Load())
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		b.kernel = perDatagram * c.metric(t, "datagrams_dropped_total", `"kernel"`)
		b.received = c.metric(t, "records_received_total", "")
		if b.received+b.kernel == b.sent && c.metric(t, "records_held", "") == 0 {
			break
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("%+v, %d held: %s", b, c.metric(t, "records_held", ""), &c.log)
		}
	}
	b.written = c.metric(t, "records_written_total", "")
	b.full = c.metric(t, "records_dropped_total", `reason="output_full"`)
	b.failed = c.metric(t, "records_dropped_total", `reason="output_error"`)
	c.stop(t)
	if b.received != b.written+b.full+b.failed {
		t.Errorf("the ledger is not even: %+v", b)
	}
	if b.kernel > 0 {
		t.Logf("the kernel has dropped %d records", b.kernel)
	}
	t.Logf("away for %v: %+v", away, b)
	return b
}

// TestOutageClickHouse kills ClickHouse. Nothing is sent twice: what it has is what was
// counted as written, and of batches without an answer, which are counted as dropped,
// some.
func TestOutageClickHouse(t *testing.T) {
	c := newClickhouse(t)
	c.start(t)
	c.create(t)
	b := endure(t, &c.server, os.Kill, "-transport", "http", "-transport.http.url", c.insert(), "-transport.http.headers", "X-ClickHouse-User=flows,X-ClickHouse-Key=hunter2",
		"-transport.http.buffer", "1GiB")
	n := numbers(t, c.query(t, "SELECT count(), uniqExact(Packets) FROM flows"))
	if n[0] != n[1] {
		t.Errorf("%d records are there, %d different ones", n[0], n[1])
	}
	if n[1] < b.written || n[1] > b.written+b.failed || b.full > 0 {
		t.Errorf("%d records are there; %+v", n[1], b)
	}
	t.Logf("%d records are there, each once", n[1])
}

// TestOutageClickHouseRetry does so with -transport.http.retry: each record is there, and
// some may be there twice.
func TestOutageClickHouseRetry(t *testing.T) {
	c := newClickhouse(t)
	c.start(t)
	c.create(t)
	b := endure(t, &c.server, os.Kill, "-transport", "http", "-transport.http.url", c.insert(), "-transport.http.headers", "X-ClickHouse-User=flows,X-ClickHouse-Key=hunter2",
		"-transport.http.buffer", "1GiB", "-transport.http.retry")
	n := numbers(t, c.query(t, "SELECT count(), uniqExact(Packets) FROM flows"))
	if n[1] != b.received || b.written != b.received {
		t.Errorf("%d different records are there; %+v", n[1], b)
	}
	t.Logf("%d records are there, %d of them twice", n[1], n[0]-n[1])
}

func numbers(t *testing.T, row string) (list []int) {
	t.Helper()
	for v := range strings.FieldsSeq(row) {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

// TestOutageCollector kills OpenTelemetry's collector. Each record is there, and those of
// batches whose acknowledgement was lost are there twice, as the specification has it.
func TestOutageCollector(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			c := newOtelcol(t)
			c.start(t)
			endpoint := map[string]string{"grpc": c.grpc, "http": fmt.Sprintf("http://%s/v1/logs", c.http)}[protocol]
			b := endure(t, &c.server, os.Kill, "-transport", "otlp", "-transport.otlp.protocol", protocol, "-transport.otlp.endpoint", endpoint, "-transport.otlp.buffer", "1GiB")
			c.stop(os.Interrupt)
			counts := c.count(t, b.sent)
			if counts.wrong != "" || b.written != b.received || counts.distinct() != b.received {
				t.Errorf("%d different records are there; %+v; %s", counts.distinct(), b, counts.wrong)
			}
			t.Logf("%d records are there, %d of them twice", counts.distinct(), counts.twice)
		})
	}
}

// TestOutageFull has too little room for the outage: what finds none is counted, and all
// that is counted as written is there.
func TestOutageFull(t *testing.T) {
	c := newOtelcol(t)
	c.start(t)
	b := endure(t, &c.server, os.Kill, "-transport", "otlp", "-transport.otlp.endpoint", c.grpc, "-transport.otlp.buffer", "8MiB")
	c.stop(os.Interrupt)
	counts := c.count(t, b.sent)
	if counts.wrong != "" || b.full == 0 || b.failed > 0 || counts.distinct() != b.written {
		t.Errorf("%d different records are there; %+v; %s", counts.distinct(), b, counts.wrong)
	}
	t.Logf("%d records are there, %d of them twice", counts.distinct(), counts.twice)
}

// TestOutageVictoriaLogs stops and kills VictoriaLogs. It acknowledges what it has in memory,
// and writes that to its disk a second later. When it is asked to stop, it writes first: each
// record is there or counted. When it is killed, it forgets what it had acknowledged last, of
// which the program cannot know; all that was sent once it was gone is there.
func TestOutageVictoriaLogs(t *testing.T) {
	http := func(base string) []string {
		return []string{"-transport", "http", "-transport.http.buffer", "1GiB",
			"-transport.http.url", base + "/insert/jsonline?_stream_fields=SamplerAddress&_time_field=TimeReceived&_msg_field=SrcAddr"}
	}
	otlp := func(base string) []string {
		return []string{"-transport", "otlp", "-transport.otlp.buffer", "1GiB", "-transport.otlp.protocol", "http",
			"-transport.otlp.endpoint", base + "/insert/opentelemetry/v1/logs"}
	}
	for _, tc := range []struct {
		name           string
		sig            os.Signal
		args           func(base string) []string
		packets, bytes string // fields
		again          bool   // a batch without an answer is sent again
	}{
		{"http, stopped", syscall.SIGTERM, http, "Packets", "Bytes", false},
		{"http, killed", os.Kill, http, "Packets", "Bytes", false},
		{"otlp, stopped", syscall.SIGTERM, otlp, "flow.io.packets", "flow.io.bytes", true},
		{"otlp, killed", os.Kill, otlp, "flow.io.packets", "flow.io.bytes", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := newVictorialogs(t)
			v.start(t)
			b := endure(t, &v.server, tc.sig, tc.args(v.base)...)
			v.stop(syscall.SIGTERM)
			v.start(t)
			counts := v.count(t, b.sent, tc.packets, tc.bytes)
			there, last := counts.distinct(), counts.lastMissing()
			if counts.wrong != "" || b.full > 0 || there > b.written+b.failed || tc.again && b.failed > 0 || !tc.again && counts.twice > 0 {
				t.Errorf("%d records are there, %d twice; %+v; %s", there, counts.twice, b, counts.wrong)
			}
			if tc.sig == syscall.SIGTERM && there < b.written {
				t.Errorf("%d records are there; %+v", there, b)
			}
			if b.kernel == 0 && last >= b.down {
				t.Errorf("record %d is missing, but it was gone when %d had been sent", last, b.down)
			}
			t.Logf("%d records are there, %d of them twice; %d that were acknowledged are not", there, counts.twice, max(0, b.written-there))
		})
	}
}
