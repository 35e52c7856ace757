package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// SwitchPrograms are the commands that [Lab.StartSwitch] needs, from Debian's
// packages openvswitch-switch and ethtool.
var SwitchPrograms = []string{"ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl", "ethtool"}

// where distributions keep the schema of the switch's database.
var schemas = []string{
	"/usr/share/openvswitch/vswitch.ovsschema",
	"/usr/local/share/openvswitch/vswitch.ovsschema",
}

// Switch is an Open vSwitch of its own, in a namespace, with the datapath in
// user space: no kernel module is needed.
type Switch struct {
	lab *Lab
	dir string
}

// StartSwitch starts an Open vSwitch in a namespace, until the test ends. It
// shares nothing with one that the system may run.
func (l *Lab) StartSwitch(ns string) *Switch {
	l.t.Helper()
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		l.t.Skipf("needs /dev/net/tun, for internal ports: %v", err)
	}
	s := &Switch{lab: l, dir: shortDir(l.t)}
	schema := ""
	for _, file := range schemas {
		if _, err := os.Stat(file); err == nil {
			schema = file
		}
	}
	if schema == "" {
		l.t.Skip("needs Open vSwitch's schema, as one of ", strings.Join(schemas, ", "))
	}
	l.Run("ovsdb-tool", "create", s.path("conf.db"), schema)
	s.start(ns, "ovsdb-server", s.path("conf.db"), "--remote=punix:"+s.path("db.sock"), "--unixctl="+s.path("db.ctl"),
		"--log-file="+s.path("ovsdb-server.log"))
	s.wait("db.sock")
	s.Vsctl("--no-wait", "init")
	s.start(ns, "ovs-vswitchd", "unix:"+s.path("db.sock"), "--unixctl="+s.path("vswitchd.ctl"), "--log-file="+s.path("ovs-vswitchd.log"))
	s.wait("vswitchd.ctl")
	l.t.Cleanup(func() {
		if l.t.Failed() {
			log, _ := os.ReadFile(s.path("ovs-vswitchd.log"))
			l.t.Logf("ovs-vswitchd in %s said:\n%s", ns, log[max(0, len(log)-3000):])
		}
	})
	return s
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

func (s *Switch) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Switch) start(ns string, args ...string) {
	s.lab.t.Helper()
	cmd := s.lab.Command(ns, append(args, "--verbose=console:off")...)
	s.environment(cmd)
	start(s.lab.t, cmd)
}

// environment keeps a program from the files of the system's Open vSwitch.
func (s *Switch) environment(cmd *exec.Cmd) {
	cmd.Env = os.Environ()
	for _, name := range []string{"OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"} {
		cmd.Env = append(cmd.Env, name+"="+s.dir)
	}
}

// wait waits for a socket to be made.
func (s *Switch) wait(name string) {
	s.lab.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(s.path(name)); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			s.lab.t.Fatalf("Open vSwitch made no %s within %s", name, patience)
		}
	}
}

// Vsctl runs ovs-vsctl, which waits until the switch has done what it says.
func (s *Switch) Vsctl(args ...string) string {
	s.lab.t.Helper()
	return s.run("ovs-vsctl", append([]string{"--timeout=20", "--db=unix:" + s.path("db.sock")}, args...)...)
}

// Taken returns how many packets the flows of a bridge with a given in_port took
// that are nobody's follow-up: those of table 0.
func (s *Switch) Taken(bridge string, port int) (packets int) {
	s.lab.t.Helper()
	text := s.run("ovs-ofctl", "--no-names", "dump-flows", s.path(bridge+".mgmt"), fmt.Sprintf("table=0,in_port=%d", port))
	for _, m := range packetCount.FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			s.lab.t.Fatal(err)
		}
		packets += n
	}
	return packets
}

var packetCount = regexp.MustCompile(`n_packets=(\d+)`)

// SetFlows makes flows all the flows of a bridge. Those that stay keep their
// counters.
func (s *Switch) SetFlows(bridge string, flows []string) {
	s.lab.t.Helper()
	file := s.path(bridge + ".flows")
	if err := os.WriteFile(file, []byte(strings.Join(flows, "\n")+"\n"), 0o600); err != nil {
		s.lab.t.Fatal(err)
	}
	s.run("ovs-ofctl", "--protocols=OpenFlow13", "replace-flows", s.path(bridge+".mgmt"), file)
}

func (s *Switch) run(name string, args ...string) string {
	s.lab.t.Helper()
	cmd := exec.Command(name, args...)
	s.environment(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.lab.t.Fatalf("%s: %v: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
