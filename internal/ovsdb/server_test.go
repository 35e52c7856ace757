package ovsdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

// database is a real ovsdb-server with a northbound database of OVN.
type database struct {
	t       *testing.T
	dir     string
	options []string // further ones of the server
	server  *exec.Cmd
}

const nbSchema = "/usr/share/ovn/ovn-nb.ovsschema" // Debian's

func newDatabase(t *testing.T) *database {
	t.Helper()
	needs.Program(t, "ovn-nbctl")
	needs.Program(t, "ovsdb-client")
	needs.Program(t, "ovsdb-server")
	tool := needs.Program(t, "ovsdb-tool")
	_, err := os.Stat(nbSchema)
	needs.OK(t, "OVN's schema", err)
	dir, err := os.MkdirTemp("", "ovsdb") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &database{t: t, dir: dir}
	d.run(tool, "create", d.file("nb.db"), nbSchema)
	d.start()
	t.Cleanup(d.stop)
	return d
}

func (d *database) file(name string) string { return filepath.Join(d.dir, name) }

func (d *database) socket() string { return "unix:" + d.file("nb.sock") }

func (d *database) run(name string, args ...string) string {
	d.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// start starts the server, and waits until it answers.
func (d *database) start() {
	d.t.Helper()
	d.server = exec.Command("ovsdb-server", append([]string{
		d.file("nb.db"), "--remote=p" + d.socket(), "--unixctl=" + d.file("ctl"), "--log-file=" + d.file("log"), "--pidfile=" + d.file("pid"),
	}, d.options...)...)
	if err := d.server.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.run("ovsdb-client", "--timeout=20", "wait", d.socket(), "OVN_Northbound", "connected")
	d.run("ovn-nbctl", "--db="+d.socket(), "--timeout=20", "init")
}

// stop ends the server at once, and waits until it has ended.
func (d *database) stop() {
	_ = d.server.Process.Kill()
	_ = d.server.Wait()
}

func (d *database) nbctl(args ...string) string {
	d.t.Helper()
	return d.run("ovn-nbctl", append([]string{"--db=" + d.socket(), "--timeout=20"}, args...)...)
}

// rows keeps the ACLs, as a receiver should.
type rows struct {
	mu      sync.Mutex
	acls    map[UUID]map[string]string // external_ids
	names   map[UUID]string
	pending map[UUID]bool
	ends    int
	changed chan struct{}
	lost    time.Time
}

func newRows() *rows {
	return &rows{acls: make(map[UUID]map[string]string), names: make(map[UUID]string), changed: make(chan struct{}, 1000)}
}

func (r *rows) Begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = make(map[UUID]bool)
}

func (r *rows) Change(table string, id UUID, op Op, row Row) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if table != "ACL" {
		return nil
	}
	if op == Delete {
		delete(r.acls, id)
		delete(r.names, id)
		return nil
	}
	if r.pending != nil {
		r.pending[id] = true
	}
	diff, err := row.Map("external_ids")
	if err != nil {
		return err
	}
	if op == Insert || r.acls[id] == nil {
		r.acls[id] = make(map[string]string)
	}
	for k, v := range diff {
		if old, ok := r.acls[id][k]; ok && old == v {
			delete(r.acls[id], k)
			continue
		}
		r.acls[id][k] = v
	}
	if op == Insert || row.Has("name") {
		if r.names[id], err = row.String("name"); err != nil {
			return err
		}
	}
	return nil
}

func (r *rows) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending != nil {
		maps.DeleteFunc(r.acls, func(id UUID, _ map[string]string) bool { return !r.pending[id] })
		r.pending = nil
	}
	r.ends++
	r.changed <- struct{}{}
}

func (r *rows) Lost(right time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = right
}

func (r *rows) wasRight() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// text has the ACLs in a comparable form.
func (r *rows) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for id, m := range r.acls {
		var pairs []string
		for _, k := range slices.Sorted(maps.Keys(m)) {
			pairs = append(pairs, k+"="+m[k])
		}
		lines = append(lines, fmt.Sprintf("%x %s %s", id[:4], r.names[id], strings.Join(pairs, ",")))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// await waits until the receiver has the same as ovn-nbctl lists.
func (d *database) await(r *rows) {
	d.t.Helper()
	list := d.file("list.json")
	if err := os.WriteFile(list, []byte(d.nbctl("--format=json", "list", "ACL")+"\n"), 0o600); err != nil {
		d.t.Fatal(err)
	}
	want := newRows()
	if _, err := ReadFile(list, []Table{testTable}, want); err != nil {
		d.t.Fatal(err)
	}
	deadline := time.After(30 * time.Second)
	for want.text() != r.text() {
		select {
		case <-r.changed:
		case <-deadline:
			d.t.Fatalf("the client has\n%s\nand the server\n%s", r.text(), want.text())
		}
	}
}

var testTable = Table{Name: "ACL", Columns: []string{"external_ids", "name", "sample_new"}, Marks: []string{"action", "match"}}

// TestServer follows a real database: what is there, changes of every kind, and what has
// changed while the server was away. ovn-nbctl says what is right.
func TestServer(t *testing.T) {
	d := newDatabase(t)
	d.nbctl("ls-add", "sw", "--", "--name=first", "acl-add", "sw", "to-lport", "1000", "ip4", "drop")
	failures := make(chan error, 100)
	ready := make(chan struct{}, 100)
	r := newRows()
	remotes, err := ParseRemotes("unix:" + d.file("nobody") + "," + d.socket())
	if err != nil {
		t.Fatal(err)
	}
	c := New(Config{
		Remotes: remotes, Database: "OVN_Northbound", Tables: []Table{testTable, {Name: "Sample", Columns: []string{"metadata"}}},
		Failed:    func(err error, _ time.Duration) { failures <- err },
		Ready:     func(Remote) { ready <- struct{}{} },
		Malformed: func(err error) { t.Error(err) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx, r) }()
	defer func() { cancel(); <-done }()

	if err := <-failures; !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a socket that is not there: %v", err)
	}
	<-ready
	d.await(r)

	id := d.nbctl("--bare", "--columns=_uuid", "find", "ACL", "name=first")
	for _, change := range [][]string{
		{"set", "ACL", id, "external_ids:a=1", "external_ids:b=2"},
		{"set", "ACL", id, "external_ids:a=3"},
		{"remove", "ACL", id, "external_ids", "b"},
		{"set", "ACL", id, "name=second"},
		{"clear", "ACL", id, "name"},
		{"--name=third", "acl-add", "sw", "from-lport", "1001", "ip6", "allow-related"},
		{"acl-del", "sw", "to-lport"},
	} {
		d.nbctl(change...)
		d.await(r)
	}

	before := time.Now()
	d.stop()
	if err := <-failures; err == nil {
		t.Error("no error for a server that ended")
	}
	if right := r.wasRight(); right.Before(before) || right.After(time.Now()) {
		t.Errorf("right until %v, and the server ended after %v", right, before)
	}
	d.start()
	d.nbctl("acl-del", "sw")
	d.nbctl("--name=fourth", "acl-add", "sw", "to-lport", "7", "ip4", "drop")
	d.await(r)
}

// TestWrongDatabase asks a real server for a database that it does not have.
func TestWrongDatabase(t *testing.T) {
	d := newDatabase(t)
	remotes, _ := ParseRemotes(d.socket())
	failures := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	c := New(Config{Remotes: remotes, Database: "OVN_Southbound", Tables: []Table{testTable}, Failed: func(err error, _ time.Duration) {
		failures <- err
		cancel()
	}})
	c.Run(ctx, newRows())
	const want = "has no database OVN_Southbound, but OVN_Northbound"
	if err := <-failures; !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
	cfg := Config{Remotes: remotes, Database: "OVN_Southbound", Tables: []Table{testTable}}
	if _, _, err := Probe(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
	// The first of several that answers counts, with the tables that it has.
	cfg.Database, cfg.Remotes = "OVN_Northbound", append([]Remote{{"unix", d.file("nobody")}}, remotes...)
	cfg.Tables = append(cfg.Tables, Table{Name: "Sample"}, Table{Name: "NB_Global"})
	remote, tables, err := Probe(t.Context(), cfg)
	if err != nil || remote != remotes[0] || !slices.Contains(tables, "ACL") || !slices.Contains(tables, "NB_Global") {
		t.Errorf("%v %v %v", remote, tables, err)
	}
}
