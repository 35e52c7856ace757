package lab

import (
	"fmt"
	"maps"
	"slices"
)

// OVNPrograms are the commands that [Lab.StartOVN] and [Switch.StartController] need,
// from Debian's packages ovn-central and ovn-host.
var OVNPrograms = []string{"ovn-northd", "ovn-nbctl", "ovn-sbctl", "ovn-controller"}

// OVN is the central part of an OVN: both databases and ovn-northd.
type OVN struct{ daemons }

// StartOVN starts an OVN's central part in a namespace, until the test ends.
func (l *Lab) StartOVN(ns string) *OVN {
	l.t.Helper()
	o := &OVN{daemons{lab: l, dir: shortDir(l.t)}}
	for _, db := range []string{"nb", "sb"} {
		o.startDatabase(ns, db, "ovn/ovn-"+db)
	}
	o.Nbctl("init")
	o.run("ovn-sbctl", "--timeout=20", "--db=unix:"+o.path("sb.sock"), "init")
	o.start(ns, "ovn-northd", "--ovnnb-db=unix:"+o.path("nb.sock"), "--ovnsb-db=unix:"+o.path("sb.sock"),
		"--unixctl="+o.path("northd.ctl"), "--log-file="+o.path("northd.log"))
	o.wait("northd.ctl")
	return o
}

// Nbctl runs ovn-nbctl.
func (o *OVN) Nbctl(args ...string) string {
	o.lab.t.Helper()
	return o.run("ovn-nbctl", append([]string{"--timeout=30", "--db=unix:" + o.path("nb.sock")}, args...)...)
}

// Schema returns the schema of the northbound database.
func (o *OVN) Schema() string {
	o.lab.t.Helper()
	return o.run("ovsdb-client", "get-schema", o.Northbound(), "OVN_Northbound")
}

// Northbound returns where the northbound database is, as OVN's programs take it.
func (o *OVN) Northbound() string { return "unix:" + o.path("nb.sock") }

// Southbound returns where the southbound database is.
func (o *OVN) Southbound() string { return "unix:" + o.path("sb.sock") }

// StartController starts an ovn-controller for the switch, until the test ends. settings
// are external-ids of the switch, without their prefix ovn-.
func (s *Switch) StartController(o *OVN, chassis string, settings map[string]string) {
	s.lab.t.Helper()
	args := []string{
		"set", "open", ".", "external-ids:system-id=" + chassis, "external-ids:hostname=" + chassis,
		"external-ids:ovn-remote=unix:" + o.path("sb.sock"),
	}
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, fmt.Sprintf("external-ids:ovn-%s=%s", key, settings[key]))
	}
	s.Vsctl(args...)
	s.start(s.ns, "ovn-controller", "unix:"+s.path("db.sock"), "--log-file="+s.path("controller.log"))
}
