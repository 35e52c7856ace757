package lab

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// SwitchPrograms are the commands that [Lab.StartSwitch] needs, from Debian's
// packages openvswitch-switch and ethtool.
var SwitchPrograms = []string{"ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl", "ethtool"}

// Switch is an Open vSwitch of its own, in a namespace, with the datapath in
// user space: no kernel module is needed.
type Switch struct {
	daemons
	ns string
}

// StartSwitch starts an Open vSwitch in a namespace, until the test ends. It
// shares nothing with one that the system may run. env is added to the environment of
// ovs-vswitchd, as NAME=VALUE.
func (l *Lab) StartSwitch(ns string, env ...string) *Switch {
	l.t.Helper()
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		l.t.Skipf("needs /dev/net/tun, for internal ports: %v", err)
	}
	s := &Switch{daemons{lab: l, dir: shortDir(l.t)}, ns}
	s.startDatabase(ns, "db", "openvswitch/vswitch")
	s.Vsctl("--no-wait", "init")
	s.start(ns, append(append([]string{"env"}, env...), "ovs-vswitchd", "unix:"+s.path("db.sock"), "--unixctl="+s.path("vswitchd.ctl"), "--log-file="+s.path("ovs-vswitchd.log"))...)
	s.wait("vswitchd.ctl")
	l.t.Cleanup(func() {
		if l.t.Failed() {
			log, _ := os.ReadFile(s.path("ovs-vswitchd.log"))
			l.t.Logf("ovs-vswitchd in %s said:\n%s", ns, log[max(0, len(log)-3000):])
		}
	})
	return s
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
