//go:build outputs

package outputs

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

// clickhouse is a server of ClickHouse, with its data in a directory.
type clickhouse struct {
	server
	dir  string
	port int
}

func newClickhouse(t *testing.T) *clickhouse {
	t.Helper()
	c := &clickhouse{dir: t.TempDir(), port: freePort(t)}
	config := fmt.Sprintf(`<yandex><logger><level>warning</level><console>1</console></logger><http_port>%d</http_port><tcp_port>%d</tcp_port><listen_host>127.0.0.1</listen_host>
<path>%s/data/</path><tmp_path>%s/tmp/</tmp_path><users_config>%s/users.xml</users_config><default_profile>default</default_profile><default_database>default</default_database><mark_cache_size>5368709120</mark_cache_size></yandex>`, c.port, freePort(t), c.dir, c.dir, c.dir)
	users := `<yandex><profiles><default><allow_experimental_low_cardinality_type>1</allow_experimental_low_cardinality_type></default></profiles>
<users><flows><password>hunter2</password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota></flows></users><quotas><default></default></quotas></yandex>`
	for name, text := range map[string]string{"config.xml": config, "users.xml": users} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := needs.Program(t, "clickhouse-server")
	c.ready = answers(fmt.Sprintf("http://127.0.0.1:%d/ping", c.port))
	c.command = func() *exec.Cmd {
		return exec.Command(program, "--config-file="+filepath.Join(c.dir, "config.xml"))
	}
	t.Cleanup(func() { c.stop(os.Kill) })
	return c
}

// create makes the table of the example.
func (c *clickhouse) create(t *testing.T) {
	t.Helper()
	table, err := os.ReadFile(root + "/examples/clickhouse/table.sql")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(table)) {
		if !strings.HasPrefix(line, "--") {
			lines = append(lines, line)
		}
	}
	for statement := range strings.SplitSeq(strings.Join(lines, ""), ";") {
		if strings.TrimSpace(statement) != "" {
			c.query(t, statement)
		}
	}
}

// insert returns the URL that lines of JSON are sent to.
func (c *clickhouse) insert() string {
	return fmt.Sprintf("http://127.0.0.1:%d/?query=%s&input_format_skip_unknown_fields=1", c.port, url.QueryEscape("INSERT INTO flows FORMAT JSONEachRow"))
}

// query sends a statement and returns the answer.
func (c *clickhouse) query(t *testing.T, sql string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/", c.port), strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-ClickHouse-User", "flows")
	req.Header.Set("X-ClickHouse-Key", "hunter2")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s %v", sql, resp.StatusCode, b, err)
	}
	return strings.TrimSpace(string(b))
}

// TestClickHouse inserts the records of a capture, of which the file has the same number
// and the same sums. The server comes only after the program has begun to send.
func TestClickHouse(t *testing.T) {
	bin := program(t)
	c := newClickhouse(t)
	c.start(t)
	c.create(t)
	for _, compression := range []string{"none", "gzip"} {
		c.query(t, "TRUNCATE TABLE flows")
		c.stop(os.Kill)
		file := filepath.Join(t.TempDir(), "flows.json")
		cmd := exec.Command(bin, "-kube.off", "-drain-timeout", "2m", "-transport", "file,http", "-transport.file", file, "-transport.http.url", c.insert(), "-transport.http.compression", compression,
			"-transport.http.headers", "X-ClickHouse-User=flows,X-ClickHouse-Key=${CLICKHOUSE_KEY}", capture)
		cmd.Env = append(os.Environ(), "CLICKHOUSE_KEY=hunter2")
		var log strings.Builder
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // the program finds nobody there
		c.start(t)
		if err := cmd.Wait(); err != nil || strings.Contains(log.String(), "hunter2") {
			t.Fatalf("%v: %s", err, &log)
		}
		records, bytes, packets := 0, uint64(0), uint64(0)
		for _, r := range readLines(t, file) {
			b, _ := r["Bytes"].(float64)
			p, _ := r["Packets"].(float64)
			records, bytes, packets = records+1, bytes+uint64(b), packets+uint64(p)
		}
		want := fmt.Sprintf("%d\t%d\t%d", records, bytes, packets)
		if got := c.query(t, "SELECT count(), sum(Bytes), sum(Packets) FROM flows"); records == 0 || got != want {
			t.Errorf("%s: ClickHouse has %q, the file %q", compression, got, want)
		}
	}
}

// readLines returns the objects in a file of JSON lines.
func readLines(t *testing.T, file string) (objects []map[string]any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, r)
	}
	return objects
}
