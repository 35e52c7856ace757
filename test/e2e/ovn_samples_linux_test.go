package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
)

// samplesACLs reports whether OVN is 24.09 or newer.
func (c *ovnLab) samplesACLs() bool { return strings.Contains(c.ovn.Schema(), `"Sampling_App"`) }

// sampleACLs has OVN sample new and established connections of each ACL, by the applications
// that OVN-Kubernetes uses. It skips the test where OVN is older than 24.09.
func (c *ovnLab) sampleACLs() {
	c.t.Helper()
	if !c.samplesACLs() {
		c.t.Skip("needs OVN 24.09 or newer: test/e2e/ovn-root.sh gets one")
	}
	c.ovn.Nbctl("--", "create", "Sample_Collector", "id=1", "name=lab", "set_id=42", "probability=65535",
		"--", "create", "Sampling_App", "type=acl-new", "id=2", "--", "create", "Sampling_App", "type=acl-est", "id=3")
	collector := c.ovn.Nbctl("--bare", "--columns=_uuid", "list", "Sample_Collector")
	for i, acl := range strings.Fields(c.ovn.Nbctl("--bare", "--columns=_uuid", "list", "ACL")) {
		c.ovn.Nbctl("--", "--id=@n", "create", "Sample", "collectors="+collector, fmt.Sprintf("metadata=%d", 4301+10*i),
			"--", "--id=@e", "create", "Sample", "collectors="+collector, fmt.Sprintf("metadata=%d", 4302+10*i),
			"--", "set", "ACL", acl, "sample_new=@n", "sample_est=@e")
	}
	c.ovn.Nbctl("--wait=hv", "sync")
}

// TestOVNSamples has a real OVN sample its ACLs: what a policy denied is in records that name
// it, with the sums that were sent, and so is what it allowed. Nothing else is.
func TestOVNSamples(t *testing.T) {
	c := newOVNLab(t)
	c.serve()
	e := c.collectVerdicts()
	c.writePolicies()
	c.sampleACLs()
	c.warmUp()
	c.talk()
	allowed := 0
	harness.Eventually(t, soon, "samples of all that was denied, and of what was allowed", func() (bool, any) {
		allowed = 0
		for _, r := range e.records(ipfix) {
			if policyOf(r) == "NetworkPolicy shop/allow-8080 Ingress" {
				allowed += r.count.Packets
			}
		}
		wrong := c.compareDenied(t, e)
		return len(wrong) == 0 && allowed > 10, fmt.Sprintf("%d packets allowed\n%s", allowed, strings.Join(wrong, "\n"))
	})
	seen := make(map[string]int)
	for _, r := range e.records(ipfix) {
		policy := strings.TrimSpace(fmt.Sprint(r.record["Verdict"], " by ", policyOf(r)))
		seen[policy]++
		if !c.mayDecide(policy, r) || r.once || r.record["PolicyWarn"] != "" {
			t.Errorf("%s: %v", policy, r.record)
		}
	}
	t.Logf("records by policy: %v; %d packets allowed by a policy", seen, allowed)
	checkLedger(t, e.enricher, -1)
	checkNoComplaints(t, e.enricher)
	e.terminate(t)
}

// mayDecide reports whether a record is of what a policy is about.
func (c *ovnLab) mayDecide(policy string, r *ovnRecord) bool {
	denied, batch := c.pod("denied"), c.pod("batch")
	toDenied, fromDenied := r.Dst == denied.v4() || r.Dst == denied.v6(), r.Src == denied.v4() || r.Src == denied.v6()
	switch policy {
	case "allowed by NetworkPolicy shop/allow-8080 Ingress":
		return toDenied && r.DstPort == 8080 || fromDenied && r.SrcPort == 8080
	case "dropped by NetworkPolicy shop/ Ingress":
		return toDenied && r.DstPort != 8080 || r.Dst.IsMulticast()
	case "dropped by EgressFirewall shop/default Egress":
		return r.Src == batch.v4() && r.Dst == outside4 && r.DstPort == 9999
	case "allowed by  / Ingress": // the node's own, and neighbours'
		return true
	}
	return false
}
