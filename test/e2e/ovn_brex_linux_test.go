package e2e

import (
	"fmt"
	"strings"
)

// externalBridge gives a node's br-ex the flows that OVN-Kubernetes' node agent sets in
// shared gateway mode: who gets what comes in from outside, the host or OVN, and how the
// host reaches Services.
func (c *ovnLab) externalBridge(n *ovnHost) {
	patch := "patch-br-ex_" + n.name() + "-to-br-int"
	n.sw.Vsctl("wait-until", "interface", patch, "ofport>0")
	words := strings.NewReplacer(
		"$ovn", n.sw.Vsctl("get", "interface", patch, "ofport"), "$wire", n.sw.Vsctl("get", "interface", "eth0", "ofport"),
		"$mac", mac(n.addr4()), "$own", n.addr4().String(), "$host", masqueradeHost.String(), "$self", masqueradeOVN.String(),
	)
	flows := []string{
		// Tunnels, which are not tracked.
		"priority=205,in_port=$wire,dl_dst=$mac,udp,udp_dst=6081,actions=output:LOCAL",
		"priority=200,in_port=$wire,udp,udp_dst=6081,actions=NORMAL",
		"priority=200,in_port=LOCAL,udp,udp_dst=6081,actions=output:$wire",
		// The host to Services, and back.
		"priority=500,in_port=LOCAL,ip,ip_dst=10.96.0.0/16,actions=ct(commit,zone=64001,nat(src=$host),table=2)",
		"priority=500,in_port=$ovn,ip,ip_src=10.96.0.0/16,ip_dst=169.254.169.0/29,actions=ct(zone=64001,nat,table=3)",
		// Services whose backend is the host itself.
		"priority=500,in_port=$ovn,ip,ip_dst=$host,ip_src=$own,actions=ct(commit,zone=64001,nat(dst=$own),table=4)",
		"priority=500,in_port=LOCAL,ip,ip_dst=$self,actions=ct(zone=64002,nat,table=5)",
		"table=4,priority=0,ip,actions=ct(commit,zone=64002,nat(src=$self),table=3)",
		"table=5,priority=0,ip,actions=ct(commit,zone=64001,nat,table=2)",
		"table=2,priority=100,actions=set_field:$mac->eth_dst,output:$ovn",
		"table=3,actions=move:NXM_OF_ETH_DST[]->NXM_OF_ETH_SRC[],set_field:$mac->eth_dst,output:LOCAL",
		"priority=115,in_port=$ovn,ip,ip_dst=10.96.0.0/16,actions=drop",
		// Node ports, and the address of a load balancer.
		fmt.Sprintf("priority=110,in_port=$wire,tcp,tp_dst=%d,actions=output:$ovn", nodePort),
		fmt.Sprintf("priority=110,in_port=$ovn,tcp,tp_src=%d,dl_src=$mac,actions=output:$wire", nodePort),
		fmt.Sprintf("priority=110,in_port=$wire,tcp,nw_dst=%s,tp_dst=80,actions=output:$ovn", balancer),
		fmt.Sprintf("priority=110,in_port=$ovn,dl_src=$mac,tcp,nw_src=%s,tp_src=80,actions=output:$wire", balancer),
		// Neighbour discovery goes to both.
		"table=1,priority=14,icmp6,icmpv6_type=136,actions=FLOOD", "table=1,priority=14,icmp6,icmpv6_type=135,actions=FLOOD",
		"priority=14,in_port=$wire,icmp6,icmpv6_type=135,actions=FLOOD", "priority=14,in_port=$wire,icmp6,icmpv6_type=136,actions=FLOOD",
		"priority=105,in_port=$ovn,icmp6,icmpv6_type=135,actions=NORMAL", "priority=105,in_port=$ovn,icmp6,icmpv6_type=136,actions=NORMAL",
		"priority=105,in_port=LOCAL,icmp6,icmpv6_type=135,actions=NORMAL",
		"priority=10,in_port=$wire,dl_dst=$mac,actions=output:$ovn,output:LOCAL",
		"priority=10,in_port=$ovn,dl_src=$mac,actions=NORMAL", "priority=9,in_port=$ovn,actions=drop",
		"table=1,priority=10,dl_dst=$mac,actions=output:LOCAL", "table=1,priority=0,actions=NORMAL", "priority=0,actions=NORMAL",
	}
	// Who begins a connection is marked, and gets its answers.
	for _, ip := range []string{"ip", "ipv6"} {
		for mark, port := range map[string]string{"0x1": "$ovn", "0x2": "LOCAL"} {
			from := "in_port=" + port
			if port == "$ovn" {
				from += ",dl_src=$mac"
			}
			flows = append(flows, fmt.Sprintf("priority=100,%s,%s,actions=ct(commit,zone=64000,exec(set_field:%s->ct_mark)),output:$wire", from, ip, mark))
			for _, state := range []string{"est", "rel"} {
				flows = append(flows, fmt.Sprintf("table=1,priority=100,%s,ct_state=+trk+%s,ct_mark=%s,actions=output:%s", ip, state, mark, port))
			}
		}
		flows = append(flows, fmt.Sprintf("priority=50,in_port=$wire,%s,actions=ct(zone=64000,nat,table=1)", ip))
	}
	for i, flow := range flows {
		flows[i] = words.Replace(flow)
	}
	n.sw.SetFlows("br-ex", flows)
}
