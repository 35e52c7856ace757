package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// daemons are programs of Open vSwitch or OVN that share a directory for their
// sockets, databases and logs.
type daemons struct {
	lab *Lab
	dir string
}

// shortDir is a temporary directory in whose path a socket's name fits.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (d *daemons) path(name string) string { return filepath.Join(d.dir, name) }

func (d *daemons) start(ns string, args ...string) {
	d.lab.t.Helper()
	cmd := d.lab.Command(ns, append(args, "--verbose=console:off")...)
	d.environment(cmd)
	start(d.lab.t, cmd)
}

// environment keeps a program from the files of the system's Open vSwitch and OVN.
func (d *daemons) environment(cmd *exec.Cmd) {
	cmd.Env = os.Environ()
	for _, name := range []string{"OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR", "OVN_RUNDIR", "OVN_DBDIR", "OVN_LOGDIR"} {
		cmd.Env = append(cmd.Env, name+"="+d.dir)
	}
}

// wait waits for a socket to be made.
func (d *daemons) wait(name string) {
	d.lab.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(d.path(name)); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			d.lab.t.Fatalf("nobody made %s within %s", name, patience)
		}
	}
}

// startDatabase starts the server of a database, which has its socket at name.sock. schema
// is where the distribution has its schema, under share and without the suffix.
func (d *daemons) startDatabase(ns, name, schema string) {
	d.lab.t.Helper()
	file := ""
	// OVN_ROOT is a tree of another version, whose programs are in PATH.
	for _, share := range []string{"/usr/local/share/", "/usr/share/", os.Getenv("OVN_ROOT") + "/usr/share/"} {
		if _, err := os.Stat(share + schema + ".ovsschema"); err == nil {
			file = share + schema + ".ovsschema"
		}
	}
	if file == "" {
		d.lab.t.Skipf("needs %s.ovsschema in /usr/share", schema)
	}
	d.lab.Run("ovsdb-tool", "create", d.path(name+".conf"), file)
	d.start(ns, "ovsdb-server", d.path(name+".conf"), "--remote=punix:"+d.path(name+".sock"), "--unixctl="+d.path(name+".ctl"),
		"--log-file="+d.path(name+".log"))
	d.wait(name + ".sock")
}

func (d *daemons) run(name string, args ...string) string {
	d.lab.t.Helper()
	cmd := exec.Command(name, args...)
	d.environment(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.lab.t.Fatalf("%s: %v: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
