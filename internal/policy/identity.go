package policy

import (
	"strings"
	"unique"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Keys of ACL.external_ids, as OVN-Kubernetes writes them
// (go-controller/pkg/libovsdb/ops/db_object_types.go).
const (
	idOwner     = "k8s.ovn.org/owner-type"
	idName      = "k8s.ovn.org/name"
	idDirection = "direction"
	idRule      = "gress-index" // of network policies
	idFirewall  = "rule-index"  // of egress firewalls
)

// keptIDs are the external_ids that are kept of an ACL, in the order of ids.
var keptIDs = [...]string{idOwner, idName, idDirection, idRule, idFirewall}

// ids are values of external_ids, in the order of keptIDs.
type ids [len(keptIDs)]unique.Handle[string]

// Owner types of OVN-Kubernetes that are kept apart here. All others are kinds of their own.
const (
	ownerNetworkPolicy  = "NetworkPolicy"
	ownerNamespace      = "NetpolNamespace" // a namespace's default deny
	ownerEgressFirewall = "EgressFirewall"
	ownerMulticast      = "MulticastNS"
)

// firewallName is the name of all egress firewalls: OVN-Kubernetes' CRD allows no other.
const firewallName = "default"

// Directions of a policy, and of ACL.direction.
const (
	ingress   = "Ingress"
	egress    = "Egress"
	toPort    = "to-lport"
	fromPort  = "from-lport"
	asIngress = "ingress"
	asEgress  = "egress"
)

// Policy is what the series of the metrics are of.
type Policy struct {
	Verdict, Kind, Namespace, Name, Direction string
}

// Decision is what an ACL says of the packets that it matches. It is comparable: ACLs with
// equal Decisions are the same to a user.
type Decision struct {
	policy unique.Handle[Policy]
	rule   unique.Handle[string]
}

// decide returns what an ACL says, by what OVN-Kubernetes writes on it. An ACL of others has
// no kind, and the name of the ACL.
func decide(action, direction, name string, x ids) Decision {
	p := Policy{Verdict: verdict(action), Direction: policyDirection(direction, x[2].Value())}
	rule := x[3].Value()
	owner, object := x[0].Value(), x[1].Value()
	if owner == kindNone || owner == kindOther {
		owner = "" // these are values of ours in the metrics
	}
	switch namespace, rest, qualified := strings.Cut(object, ":"); {
	case owner == "":
		p.Name = name
	case owner == ownerNamespace:
		p.Kind, p.Namespace = ownerNetworkPolicy, object
	case owner == ownerEgressFirewall:
		p.Kind, p.Namespace, p.Name, p.Direction = owner, namespace, firewallName, egress
		if qualified {
			p.Name = rest
		}
		rule = x[4].Value()
	case owner == ownerMulticast:
		p.Kind, p.Namespace = owner, object
	case qualified:
		p.Kind, p.Namespace, p.Name = owner, namespace, rest
	default:
		p.Kind, p.Name = owner, object
	}
	if rule == "" {
		rule = x[4].Value()
	}
	return Decision{unique.Make(p), unique.Make(rule)}
}

// verdict returns the verdict of an action (ovn-nb(5), ACL.action). To pass decides
// nothing: the next tier does.
func verdict(action string) string {
	switch {
	case strings.HasPrefix(action, "allow"):
		return flow.VerdictAllowed
	case action == "drop" || action == "reject":
		return flow.VerdictDropped
	}
	return ""
}

// policyDirection returns the direction that is written on an ACL, or that of its pipeline.
func policyDirection(pipeline, written string) string {
	switch strings.ToLower(written) {
	case asIngress:
		return ingress
	case asEgress:
		return egress
	}
	switch pipeline {
	case toPort:
		return ingress
	case fromPort:
		return egress
	}
	return ""
}

// String returns the policy as people name it: "NetworkPolicy shop/web (Ingress 0)".
func (d Decision) String() string {
	p := d.policy.Value()
	var b strings.Builder
	b.WriteString(p.Kind)
	if p.Kind == "" {
		b.WriteString("ACL")
	}
	b.WriteByte(' ')
	if p.Namespace != "" {
		b.WriteString(p.Namespace)
		b.WriteByte('/')
	}
	b.WriteString(p.Name)
	if p.Name == "" && p.Kind == ownerNetworkPolicy {
		b.WriteString("(default deny)")
	}
	b.WriteString(" (")
	b.WriteString(p.Direction)
	if rule := d.rule.Value(); rule != "" {
		b.WriteByte(' ')
		b.WriteString(rule)
	}
	if p.Verdict != "" {
		b.WriteString(", ")
		b.WriteString(p.Verdict)
	}
	b.WriteByte(')')
	return b.String()
}
