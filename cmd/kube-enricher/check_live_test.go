package main

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/test/brokers"
)

// TestCheckLive tries ports and outputs, of which some cannot be had. test/e2e has the same with
// an API server.
func TestCheckLive(t *testing.T) {
	c := brokers.New(t, kafkaTopic)
	free, other, used := freeAddr(t), freeAddr(t), freeAddr(t)
	conn, err := net.ListenPacket("udp", used)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l, err := net.Listen("tcp", used)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	go func() { // a web server, which is no database
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = c.Close()
		}
	}()
	posts, server := newPosts(t, http.StatusOK)
	logs, receiver := newLogsReceiver(t)
	for _, tc := range []struct {
		name string
		args []string
		code int
		want []string // patterns of rows
	}{
		{"all is well", append(kafkaArgs(c.ListenAddrs()[0]), "-listen", "flow://"+free, "-addr", free), exitDone, []string{
			`ports for flows +ok +flow://` + free, `port for HTTP +ok +` + free + ` \(-addr\)\n`, `output kafka +ok +reached`,
		}},
		{"ports in use", []string{"-listen", "flow://" + used, "-addr", used}, exitFailed, []string{
			`ports for flows +failed .*address already in use`, `port for HTTP +failed .*-addr.*address already in use`, `output file +ok`,
		}},
		{"no broker", append(kafkaArgs("127.0.0.1:1"), "-listen", "flow://"+free, "-addr", free), exitFailed, []string{
			`ports for flows +ok`, `output kafka +failed .*connection refused`,
		}},
		{"page and Hubble", []string{"-addr", "", "-ui.addr", free, "-hubble.addr", other, "-listen", "flow://" + free}, exitDone, []string{
			`port for HTTP +ok +` + free + ` \(-ui.addr\)\n`, `port for Hubble +ok +` + other + ` \(-hubble.addr\)\n`,
		}},
		{"page in use, and one that is not ours", []string{"-addr", free, "-debug.addr", "192.0.2.1:80", "-ui.addr", used, "-hubble.addr", taken.Addr().String(), "-listen", "flow://" + free}, exitFailed, []string{
			`port for HTTP +ok +` + free + ` \(-addr\)\n`, `port for HTTP +failed .*192.0.2.1:80 \(-debug.addr\).*cannot assign`,
			`port for HTTP +failed .*\(-ui.addr\).*already in use`, `port for Hubble +failed .*\(-hubble.addr\).*already in use`,
		}},
		{"a capture with a page", []string{"-ui.addr", used, ovnDrop}, exitFailed, []string{`port for HTTP +failed .*\(-ui.addr\).*already in use`}},
		{"databases", []string{"-ovn.nb", "tcp:" + used, "-ovn.sb", nbDrops, "-addr", free, "-listen", "flow://" + free}, exitFailed, []string{
			`database OVN_Northbound +failed +-ovn.nb: tcp:` + used + `: .*give its socket or port\n`, `database OVN_Southbound +ok +` + nbDrops + `\n`,
		}},
		{"a server and a receiver", []string{"-listen", "flow://" + free, "-addr", free, "-transport", "http,otlp", "-transport.http.url", server, "-transport.otlp.endpoint", receiver}, exitDone, []string{
			`output http +ok +reached`, `output otlp +ok +reached`,
		}},
		{"no server, and one without TLS", []string{"-listen", "flow://" + free, "-addr", free, "-transport", "http,otlp", "-transport.http.url", "http://127.0.0.1:1/", "-transport.otlp.endpoint", "https://" + receiver}, exitFailed, []string{
			`output http +failed .*connection refused`, `output otlp +failed .*tls: first record does not look like a TLS handshake`,
		}},
	} {
		stdout, stderr, code := runProgram(t, append([]string{"-check", "-check.live", "-kube.off"}, tc.args...)...)
		if code != tc.code {
			t.Errorf("%s: exit code %d: %s", tc.name, code, stderr)
		}
		for _, want := range tc.want {
			if !regexp.MustCompile(want).MatchString(stdout) {
				t.Errorf("%s: no %s in\n%s", tc.name, want, stdout)
			}
		}
	}
	if len(posts.requests) > 0 || len(logs.records) > 0 {
		t.Errorf("%d requests and %d records were sent", len(posts.requests), len(logs.records))
	}
}

func TestCheckBuffers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rmem_max")
	if err := os.WriteFile(file, []byte("212992\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int]string{212992: findingOK, 8 << 20: findingWarning} {
		rows := checkBuffers([]collector.Listener{{ReceiveBuffer: 1000}, {ReceiveBuffer: size}}, file)
		if len(rows) != 1 || rows[0].result != want || want == findingWarning && !strings.Contains(rows[0].detail, "sysctl -w net.core.rmem_max=8388608") {
			t.Errorf("%d: %v", size, rows)
		}
	}
}
