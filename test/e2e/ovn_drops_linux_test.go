package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
)

// writePolicies writes on the lab's ACLs what OVN-Kubernetes would, and gives samples a
// target.
func (c *ovnLab) writePolicies() {
	const key = "external_ids:k8s.ovn.org/"
	for match, ids := range map[string][]string{
		"outport == @a_denied":                    {key + "owner-type=NetpolNamespace", key + "name=shop", "external_ids:direction=Ingress", "external_ids:type=defaultDeny"},
		"outport == @a_denied && tcp.dst == 8080": {key + "owner-type=NetworkPolicy", key + `name="shop:allow-8080"`, "external_ids:direction=Ingress", "external_ids:gress-index=0"},
		"9999": {key + "owner-type=EgressFirewall", key + "name=shop", "external_ids:rule-index=0"},
	} {
		var acls []string
		for line := range strings.Lines(c.ovn.Nbctl("--no-headings", "--format=csv", "--columns=_uuid,match", "list", "ACL")) {
			id, text, _ := strings.Cut(strings.TrimSpace(line), ",")
			if text = strings.Trim(text, `"`); text == match || match == "9999" && strings.HasSuffix(text, "== 9999") {
				acls = append(acls, id)
			}
		}
		if len(acls) != 1 {
			c.t.Fatalf("%d ACLs match %s", len(acls), match)
		}
		c.ovn.Nbctl(append([]string{"set", "ACL", acls[0]}, ids...)...)
	}
	for _, n := range c.nodes {
		n.sw.Vsctl("--", "--id=@b", "get", "bridge", "br-int",
			"--", "--id=@i", "create", "ipfix", fmt.Sprintf(`targets=["%s:2055"]`, collectorAddr), "cache_active_timeout=2", "cache_max_flows=10000",
			"--", "create", "Flow_Sample_Collector_Set", "bridge=@b", "id=42", "ipfix=@i")
	}
}

// sampleDrops has OVN sample what it drops. In newer versions the flow that drops is that of
// all ACLs, so a drop names none: they sample ACLs instead.
func (c *ovnLab) sampleDrops() {
	if c.samplesACLs() {
		c.t.Skip("needs OVN 23.03, in which each ACL has a flow that drops")
	}
	c.ovn.Nbctl("set", "NB_Global", ".", "options:debug_drop_domain_id=1", "options:debug_drop_collector_set=42")
	c.ovn.Nbctl("--wait=hv", "sync")
}

// collectVerdicts starts the program with OVN's databases.
func (c *ovnLab) collectVerdicts() *ovnCollector {
	return c.collect("-ovn.nb", c.ovn.Northbound(), "-ovn.sb", c.ovn.Southbound(),
		"-fields", "default,+CountsOnce,+ObservationDomainId,+ObservationPointId,+Verdict,+PolicyKind,+PolicyNamespace,+PolicyName,+PolicyDirection,+PolicyRule,+PolicyWarn")
}

// warmUp has the nodes find each other: Open vSwitch drops the first packet of a tunnel,
// while it looks for the other end.
func (c *ovnLab) warmUp() {
	for from, to := range map[string]string{"web": "client", "client": "web"} {
		if err := c.ping(from, 3, c.pod(to).v4().String())(0); err != nil {
			c.t.Fatal(err)
		}
	}
}

// deniedKinds are the kinds of traffic that policies deny, by the client's port.
var deniedKinds = map[uint16]string{
	40018: "NetworkPolicy shop/ Ingress",
	40019: "NetworkPolicy shop/ Ingress",
	40021: "EgressFirewall shop/default Egress",
}

// TestOVNDrops has a real OVN sample what it drops: every packet that a policy denied is in
// a record that names the policy, no other record does, and the sums are what was sent.
func TestOVNDrops(t *testing.T) {
	c := newOVNLab(t)
	c.serve()
	e := c.collectVerdicts()
	c.writePolicies()
	c.sampleDrops()
	c.warmUp()
	c.talk()
	harness.Eventually(t, soon, "samples of all that was denied", func() (bool, any) {
		wrong := c.compareDenied(t, e)
		return len(wrong) == 0, strings.Join(wrong, "\n")
	})
	dropped := 0
	for _, r := range e.records(ipfix) {
		policy, denied := deniedKinds[r.SrcPort]
		if domain, _ := r.record["ObservationDomainId"].(float64); uint32(domain)<<8 == 0 {
			// ovn-controller's own samples: also of what arrives on another node.
			if policyOf(r) != " / " || r.record["Verdict"] != "" {
				t.Errorf("a sample without datapath has a verdict: %v", r.record)
			}
			continue
		}
		switch {
		case r.record["Verdict"] != "dropped":
			t.Errorf("a sample of drops without verdict: %v", r.record)
		case r.once:
			t.Errorf("a sample counts as traffic: %v", r.record)
		case r.Dst.IsMulticast(): // a copy for the pod that is denied, and one for the router
		case denied && policyOf(r) != policy, !denied && policyOf(r) != " / ":
			t.Errorf("port %d: %q, not %q: %v", r.SrcPort, policyOf(r), policy, r.record)
		case r.record["PolicyWarn"] != "":
			t.Errorf("doubt: %v", r.record)
		}
		dropped++
	}
	t.Logf("%d samples of drops", dropped)
	checkLedger(t, e.enricher, -1)
	m := e.metrics(t)
	if n := sum(m, "ovn_connected"); n != 2 {
		t.Errorf("connected to %v databases, not 2", n)
	}
	checkNoComplaints(t, e.enricher)
	e.terminate(t)
}

// policyOf returns the policy of a record: kind, namespace, name and direction.
func policyOf(r *ovnRecord) string {
	x := r.record
	return fmt.Sprintf("%s %s/%s %s", x["PolicyKind"], x["PolicyNamespace"], x["PolicyName"], x["PolicyDirection"])
}

// compareDenied compares what pods sent in vain with what was sampled of it.
func (c *ovnLab) compareDenied(t *testing.T, e *ovnCollector) (wrong []string) {
	sampled, samples := make(map[uint16]int), make(map[uint16]string)
	for _, r := range e.records(ipfix) {
		samples[r.SrcPort] += fmt.Sprintf("\n  %d packets by %v, domain %v, point %v: %s",
			r.count.Packets, r.exporter, r.record["ObservationDomainId"], r.record["ObservationPointId"], policyOf(r))
		if r.record["PolicyKind"] != "" {
			sampled[r.SrcPort] += r.count.Packets
		}
	}
	sent := make(map[uint16]int)
	for k, n := range c.wires(t) {
		if _, denied := deniedKinds[k.SrcPort]; denied && k.sent && slices.ContainsFunc(c.pods, func(p *ovnPod) bool { return p.v4() == k.Src }) {
			sent[k.SrcPort] += n.Packets
		}
	}
	for port := range deniedKinds {
		if sent[port] == 0 || sent[port] != sampled[port] {
			wrong = append(wrong, fmt.Sprintf("port %d: %d packets sent, %d in samples:%s", port, sent[port], sampled[port], samples[port]))
		}
	}
	return wrong
}
