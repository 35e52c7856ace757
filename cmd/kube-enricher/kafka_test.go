package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/netobserv/goflow2-kube-enricher/flow/flowpb"
	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
	"github.com/netobserv/goflow2-kube-enricher/test/brokers"
)

const (
	kafkaTopic   = "flows"
	kafkaCapture = captureDir + "/softflowd-v9.pcap"
	kafkaRecords = 964 // in it
)

// security is how clients get to a broker.
type security struct {
	name    string
	broker  []kfake.Opt
	args    []string // ours
	env     []string
	options []kgo.Opt // of a consumer
	kcat    []string  // of another
}

func securities(t *testing.T) []security {
	certs := brokers.NewCertificates(t)
	tlsArgs := []string{"-transport.kafka.tls", "-transport.kafka.tls.ca", certs.CA}
	mutual := append(slices.Clone(tlsArgs), "-transport.kafka.tls.client", certs.ClientCert, "-transport.kafka.tls.key", certs.ClientKey)
	login := []string{"KAFKA_SASL_USER=flows", "KAFKA_SASL_PASS=s=e c"}
	sasl := []string{"-X", "sasl.username=flows", "-X", "sasl.password=s=e c"}
	dial := func(cfg *tls.Config) kgo.Opt { cfg.RootCAs = certs.Pool; return kgo.DialTLSConfig(cfg) }
	sha := scram.Auth{User: "flows", Pass: "s=e c"}
	return []security{
		{"none", nil, nil, nil, nil, nil},
		{"TLS", []kfake.Opt{kfake.TLS(certs.Server(false))}, tlsArgs, nil, []kgo.Opt{dial(&tls.Config{})}, []string{"-X", "security.protocol=ssl", "-X", "ssl.ca.location=" + certs.CA}},
		{
			"mutual TLS", []kfake.Opt{kfake.TLS(certs.Server(true))}, mutual, nil,
			[]kgo.Opt{dial(&tls.Config{Certificates: []tls.Certificate{certs.Client}})},
			[]string{"-X", "security.protocol=ssl", "-X", "ssl.ca.location=" + certs.CA, "-X", "ssl.certificate.location=" + certs.ClientCert, "-X", "ssl.key.location=" + certs.ClientKey},
		},
		{
			"plain", []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "flows", "s=e c")}, []string{"-transport.kafka.sasl", "plain"}, login,
			[]kgo.Opt{kgo.SASL(plain.Auth{User: "flows", Pass: "s=e c"}.AsMechanism())},
			append([]string{"-X", "security.protocol=sasl_plaintext", "-X", "sasl.mechanisms=PLAIN"}, sasl...),
		},
		{
			"SCRAM-SHA-256", []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "flows", "s=e c")}, []string{"-transport.kafka.sasl", "scram-sha256"}, login,
			[]kgo.Opt{kgo.SASL(sha.AsSha256Mechanism())},
			append([]string{"-X", "security.protocol=sasl_plaintext", "-X", "sasl.mechanisms=SCRAM-SHA-256"}, sasl...),
		},
		{
			"SCRAM-SHA-512 in TLS", []kfake.Opt{kfake.TLS(certs.Server(false)), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "flows", "s=e c")},
			append(slices.Clone(tlsArgs), "-transport.kafka.sasl", "scram-sha512"), login,
			[]kgo.Opt{dial(&tls.Config{}), kgo.SASL(sha.AsSha512Mechanism())},
			append([]string{"-X", "security.protocol=sasl_ssl", "-X", "ssl.ca.location=" + certs.CA, "-X", "sasl.mechanisms=SCRAM-SHA-512"}, sasl...),
		},
	}
}

// kafkaArgs sends records to a topic.
func kafkaArgs(addr string, more ...string) []string {
	return append([]string{"-transport", "kafka", "-transport.kafka.brokers", addr, "-transport.kafka.topic", kafkaTopic}, more...)
}

// runWith runs the program with variables in its environment.
func runWith(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := command(t, args...)
	cmd.Env = append(cmd.Env, env...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	_ = cmd.Run()
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// TestKafka writes a capture to brokers that want the client to show who it is,
// and reads it with our client library and with librdkafka's.
func TestKafka(t *testing.T) {
	want := strings.Split(strings.TrimSuffix(outputOf(t, "-kube.snapshot", demoSnapshot, kafkaCapture), "\n"), "\n")
	slices.Sort(want)
	for _, s := range securities(t) {
		t.Run(s.name, func(t *testing.T) {
			c := brokers.New(t, kafkaTopic, s.broker...)
			addr := c.ListenAddrs()[0]
			stdout, stderr, code := runWith(t, s.env, append(kafkaArgs(addr, s.args...), "-kube.snapshot", demoSnapshot, kafkaCapture)...)
			if code != exitDone || stdout != "" {
				t.Fatalf("exit code %d, stdout %q, stderr %s", code, stdout, stderr)
			}
			var got []string
			for _, r := range brokers.Consume(t, kafkaTopic, kafkaRecords, []string{addr}, s.options...) {
				got = append(got, string(r.Value))
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("the records are not those of the file: %s", got[0])
			}
			t.Run("kcat", func(t *testing.T) {
				kcat := needs.Program(t, "kcat")
				if len(s.env) > 0 {
					oldHandshake(t, c, addr, s.options)
				}
				cmd := exec.CommandContext(t.Context(), kcat, append([]string{"-C", "-q", "-e", "-b", addr, "-t", kafkaTopic, "-f", "%k %s\n"}, s.kcat...)...)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%v: %s", err, stderr.String())
				}
				var got []string
				for line := range strings.Lines(string(out)) {
					key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
					got = append(got, value)
					// The lesser address is the first.
					m := regexp.MustCompile(`"DstAddr":"(.*?)".*"SrcAddr":"(.*?)"`).FindStringSubmatch(value)
					if k := min(m[1], m[2]) + "," + max(m[1], m[2]); key != k {
						t.Fatalf("key %q, want %q", key, k)
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("%d records are not those of the file", len(got))
				}
			})
		})
	}
}

// oldHandshake makes the broker say that it knows the oldest version of the
// request SaslHandshake, too, which librdkafka 2.0 insists on and then does not
// use.
func oldHandshake(t *testing.T, c *kfake.Cluster, addr string, opts []kgo.Opt) {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	for i := range resp.ApiKeys {
		if k := &resp.ApiKeys[i]; k.ApiKey == int16(kmsg.SASLHandshake) {
			k.MinVersion = 0
		}
	}
	c.ControlKey(int16(kmsg.ApiVersions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r := *resp
		r.Version = req.GetVersion()
		return &r, nil, true
	})
}

// TestKafkaShutOut sees what keeps the program from a broker: /readyz tells, the
// records are held, and counted in the end.
func TestKafkaShutOut(t *testing.T) {
	all := securities(t)
	other := securities(t) // of other authorities
	named := func(ss []security, name string) security {
		return ss[slices.IndexFunc(ss, func(s security) bool { return s.name == name })]
	}
	for _, tc := range []struct {
		name   string
		broker security
		args   []string
		env    []string
		fault  *kfake.Fault // what a broker answers where kfake just hangs up
		want   string
	}{
		{"unknown authority", named(other, "TLS"), named(all, "TLS").args, nil, nil, "certificate signed by unknown authority"},
		{"no certificate", named(all, "mutual TLS"), named(all, "TLS").args, nil, nil, "certificate required"},
		{"wrong password", named(all, "SCRAM-SHA-256"), named(all, "SCRAM-SHA-256").args, []string{"KAFKA_SASL_USER=flows", "KAFKA_SASL_PASS=x"}, &kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, Err: kerr.SaslAuthenticationFailed}, "SASL_AUTHENTICATION_FAILED"},
		{"wrong mechanism", named(all, "plain"), named(all, "SCRAM-SHA-256").args, named(all, "plain").env, &kfake.Fault{Keys: []kmsg.Key{kmsg.SASLHandshake}, Err: kerr.UnsupportedSaslMechanism}, "UNSUPPORTED_SASL_MECHANISM"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := brokers.New(t, kafkaTopic, tc.broker.broker...)
			if tc.fault != nil {
				tc.fault.TopLevel, tc.fault.Count = true, -1
				c.Fault(*tc.fault)
			}
			flows, addr := freeAddr(t), freeAddr(t)
			args := append(kafkaArgs(c.ListenAddrs()[0], tc.args...), "-listen", "flow://"+flows, "-addr", addr, "-kube.off", "-drain-timeout", "100ms")
			t.Setenv("KAFKA_SASL_USER", "")
			for _, kv := range tc.env {
				name, value, _ := strings.Cut(kv, "=")
				t.Setenv(name, value)
			}
			p := startProgram(t, args...)
			base := "http://" + addr
			var body string
			p.eventually("it says what is wrong", func() bool {
				var s string
				s, body = state(t, base)
				return s == "degraded" && strings.Contains(body, tc.want)
			})
			sendCapture(t, flows, "softflowd-v9")
			p.eventually("held", func() bool {
				text, _ := get(t, base+"/metrics")
				return metric(text, "kube_enricher_records_held", "output") == kafkaRecords
			})
			p.signal(syscall.SIGTERM)
			if code := p.wait(); code != exitFailed || !strings.Contains(p.stderr(), strconv.Itoa(kafkaRecords)+" records are left") {
				t.Errorf("exit code %d: %s", code, p.stderr())
			}
			if !strings.Contains(p.stderr(), "dropped_shutdown="+strconv.Itoa(kafkaRecords)) {
				t.Errorf("no count of the drops: %s", p.stderr())
			}
		})
	}
}

// TestOutputs writes a capture in two formats at once.
func TestOutputs(t *testing.T) {
	c := brokers.New(t, kafkaTopic)
	file := filepath.Join(t.TempDir(), "flows")
	for _, args := range [][]string{
		{"-transport", "file:json,kafka:protobuf"},
		{"-transport", "kafka,file", "-format", "kafka:bin, file:json"},
	} {
		args = append(kafkaArgs(c.ListenAddrs()[0]), append(args, "-transport.file", file, "-kube.snapshot", demoSnapshot, kafkaCapture)...)
		if _, stderr, code := runProgram(t, args...); code != exitDone || !strings.Contains(stderr, "file_written=964 kafka_dropped=0 kafka_written=964") {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
	}
	lines, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	type id struct {
		addr  string
		port  uint32
		bytes uint64
	}
	counts := make(map[id]int)
	for _, r := range records(t, string(lines)) {
		port, _ := strconv.ParseUint(fmt.Sprint(r["SrcPort"]), 10, 16)
		n, _ := strconv.ParseUint(fmt.Sprint(r["Bytes"]), 10, 64)
		counts[id{fmt.Sprint(r["SrcAddr"]), uint32(port), n}]++
	}
	for _, r := range brokers.Consume(t, kafkaTopic, 2*kafkaRecords, c.ListenAddrs()) {
		var m flowpb.EnrichedFlow
		if err := protodelim.UnmarshalFrom(bytes.NewReader(r.Value), &m); err != nil {
			t.Fatal(err)
		}
		counts[id{net.IP(m.GetSrcAddr()).String(), m.GetSrcPort(), m.GetBytes()}]--
	}
	for id, n := range counts {
		if n != 0 {
			t.Errorf("record %v is %d times more in the file than in Kafka", id, n)
		}
	}
}

// TestOutputsPipe reads goflow2's output, for two outputs.
func TestOutputsPipe(t *testing.T) {
	c := brokers.New(t, kafkaTopic)
	const lines = `{"type":"IPFIX","src_addr":"10.244.0.5","dst_addr":"10.96.0.1","bytes":12345678901234567890}` + "\nno record\n" + `{"SrcAddr":"10.96.0.1","DstAddr":"10.244.0.5"}` + "\n"
	cmd := command(t, append(kafkaArgs(c.ListenAddrs()[0]), "-transport", "file,kafka", "-kube.off", "-")...)
	cmd.Stdin = strings.NewReader(lines)
	out, err := cmd.Output()
	if err != nil || string(out) != lines {
		t.Errorf("%q, %v", out, err)
	}
	keys := make(map[string]string)
	for _, r := range brokers.Consume(t, kafkaTopic, 3, c.ListenAddrs()) {
		keys[string(r.Value)] = string(r.Key)
	}
	for i, line := range strings.Split(strings.TrimSuffix(lines, "\n"), "\n") {
		want := "10.244.0.5,10.96.0.1"
		if i == 1 {
			want = ""
		}
		if key, ok := keys[line]; !ok || key != want {
			t.Errorf("%s has key %q, %v", line, key, ok)
		}
	}
}

// TestOneStalled checks that an output that stalls does not hold the other, and
// that each has its own ledger.
func TestOneStalled(t *testing.T) {
	transports := []string{"file", "kafka"}
	for _, stalled := range transports {
		t.Run(stalled, func(t *testing.T) {
			g, c := brokers.NewGated(t, kafkaTopic)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			flows, addr := freeAddr(t), freeAddr(t)
			base := "http://" + addr
			p := startWith(t, nil, w, append(kafkaArgs(g.Address()), "-transport", "file,kafka:protobuf", "-transport.kafka.flushfreq", "10ms",
				"-transport.kafka.buffer", map[string]string{"file": "67108864", "kafka": "131072"}[stalled], "-listen", "flow://"+flows+"?count=2", "-addr", addr, "-kube.off", "-drain-timeout", "500ms")...)
			w.Close()
			p.eventually("ready", func() bool { _, code := get(t, base+"/readyz"); return code == http.StatusOK })
			if stalled == "kafka" {
				g.Shut()
				go func() {
					buf := make([]byte, 1<<20)
					for {
						if _, err := r.Read(buf); err != nil {
							return
						}
					}
				}()
			}
			works := transports[1-slices.Index(transports, stalled)]
			var text string
			sent := 0
			value := func(name, labels string) float64 { return metric(text, "kube_enricher_"+name, labels) }
			p.eventually("the stalled output drops, the other does not", func() bool {
				sendCapture(t, flows, "softflowd-v9")
				sent += kafkaRecords
				n := float64(sent)
				p.eventually("the other has all", func() bool {
					text, _ = get(t, base+"/metrics")
					return value("records_written_total", `"`+works+`"`) == n
				})
				return value("records_dropped_total", `reason="output_full",transport="`+stalled+`"`) > 0
			})
			// A scrape reads one output after the other, and the last datagram may come in
			// between, so the sums are those of a scrape that begins after it.
			p.eventually("the ledgers balance", func() bool {
				text, _ = get(t, base+"/metrics")
				for _, name := range transports {
					label := `transport="` + name + `"`
					sum := value("records_written_total", label) + value("records_dropped_total", label) + value("records_held", label)
					if sum != value("records_received_total", "") || sum != float64(sent) {
						return false
					}
				}
				return true
			})
			if stalled == "kafka" {
				p.eventually("/readyz says so", func() bool {
					s, body := state(t, base)
					return s == "not ready" && strings.Contains(body, `"output.kafka":"the buffer is full`) && !strings.Contains(body, `"output.file"`)
				})
			}
			p.signal(syscall.SIGTERM)
			if code := p.wait(); code != exitFailed || !strings.Contains(p.stderr(), works+"_dropped=0") {
				t.Errorf("exit code %d: %s", code, p.stderr())
			}
			_ = c
		})
	}
}

// TestKafkaOutage takes the broker away for as long as the variable KAFKA_OUTAGE
// says, while 20,000 records a second come in: each must be in the topic once,
// or counted.
func TestKafkaOutage(t *testing.T) {
	outage, err := time.ParseDuration(os.Getenv("KAFKA_OUTAGE"))
	if err != nil {
		t.Skip("needs KAFKA_OUTAGE, a duration such as 30s: make kafka-outage")
	}
	const (
		rate        = 20_000
		perDatagram = 10
		around      = 10 * time.Second // before and after
	)
	for _, buffer := range []int{16 << 20, 64 << 20, 256 << 20} {
		t.Run(fmt.Sprintf("%d MiB", buffer>>20), func(t *testing.T) {
			g, _ := brokers.NewGated(t, kafkaTopic)
			flows, addr := freeAddr(t), freeAddr(t)
			base := "http://" + addr
			p := startProgram(t, append(kafkaArgs(g.Address()), "-format", "protobuf", "-transport.kafka.buffer", strconv.Itoa(buffer), "-transport.kafka.flushfreq", "500ms",
				"-listen", "flow://"+flows+"?count=2", "-addr", addr, "-kube.off")...)
			p.eventually("ready", func() bool { _, code := get(t, base+"/readyz"); return code == http.StatusOK })
			conn, err := net.Dial("udp", flows)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			template, data := benchMessages("ipfix", 0, perDatagram, perDatagram)
			if _, err := conn.Write(template); err != nil {
				t.Fatal(err)
			}
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			sent := uint32(0)
			start, phase := time.Now(), 0
			var highest, dropped float64
			var atEnd string // of the outage
			for now := start; now.Sub(start) < 2*around+outage; now = <-tick.C {
				elapsed := now.Sub(start)
				for ; float64(sent) < elapsed.Seconds()*rate/perDatagram; sent++ {
					binary.BigEndian.PutUint32(data[8:], sent)
					if _, err := conn.Write(data); err != nil {
						t.Fatal(err)
					}
				}
				switch {
				case phase == 0 && elapsed > around:
					g.Shut()
					phase++
				case phase == 1 && elapsed > around+outage:
					text, _ := get(t, base+"/metrics")
					highest = metric(text, "process_resident_memory_bytes", "")
					dropped = metric(text, "kube_enricher_records_dropped_total", `"output_full"`)
					atEnd, _ = state(t, base)
					g.Open(t)
					phase++
				}
			}
			var text string
			value := func(name, labels string) int { return int(metric(text, "kube_enricher_"+name, labels)) }
			p.eventually("nothing is held", func() bool {
				text, _ = get(t, base+"/metrics")
				return value("datagrams_received_total", "")+value("datagrams_dropped_total", `"kernel"`) == int(sent)+1 && value("records_held", "") == 0
			})
			received, written := value("records_received_total", ""), value("records_written_total", "")
			kernel, full := value("datagrams_dropped_total", `"kernel"`), value("records_dropped_total", `"output_full"`)
			checkLedger(t, text, float64(received))
			if received != (int(sent)-kernel)*perDatagram || received != written+full {
				t.Errorf("%d sent, %d datagrams dropped by the kernel, %d received, %d written, %d dropped", sent*perDatagram, kernel, received, written, full)
			}
			if want := map[bool]string{false: "degraded", true: "not ready"}[dropped > 0]; atEnd != want {
				t.Errorf("/readyz said %q without brokers, and %v records were dropped", atEnd, dropped)
			}
			p.signal(syscall.SIGTERM)
			if code := p.wait(); code != exitDone {
				t.Errorf("exit code %d: %s", code, p.stderr())
			}
			type id struct {
				key            string
				sequence, port uint32
			}
			seen := make(map[id]bool, written)
			for _, r := range brokers.Consume(t, kafkaTopic, written, []string{g.Address()}) {
				var m flowpb.EnrichedFlow
				if err := protodelim.UnmarshalFrom(bytes.NewReader(r.Value), &m); err != nil {
					t.Fatal(err)
				}
				id := id{string(r.Key), m.GetSequenceNum(), m.GetSrcPort()}
				if seen[id] {
					t.Fatalf("record %v is there twice", id)
				}
				seen[id] = true
			}
			t.Logf("%d records sent, %d lost in the kernel, %d received, %d written and there once, %d dropped for output_full; %.0f MiB resident at the end of the outage",
				sent*perDatagram, kernel*perDatagram, received, written, full, highest/(1<<20))
		})
	}
}
