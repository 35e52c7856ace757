package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/lab"
)

// ovsCluster is a cluster of two nodes on Open vSwitch, wired as OVN-Kubernetes
// wires it: on each node a bridge br-int, which the pods, the management port
// and a Geneve tunnel to the other node are ports of, and a bridge br-ex with
// the node's address. Nodes and pods are network namespaces. Each has a Node or
// a Pod with its addresses in the API server. The collector is a pod, too: the
// switches' exports come from their nodes' management ports.
type ovsCluster struct {
	t         *testing.T
	lab       *lab.Lab
	namespace string // of Kubernetes
	nodes     []*ovsNode
	pods      []*ovsPod
	nextPort  int           // on br-int
	service   [2]netip.Addr // IPv4, IPv6; backend's
	backend   *ovsPod

	// truth has what is to be said of each address.
	truth map[netip.Addr]names
}

type ovsNode struct {
	name       string // of the Node and of the namespace
	address    netip.Addr
	v4, v6     netip.Prefix // of the pods
	gatewayMAC string
	sw         *lab.Switch
}

// The second address of each subnet is the management port's.
func (n *ovsNode) management() []netip.Addr {
	return []netip.Addr{n.v4.Addr().Next().Next(), n.v6.Addr().Next().Next()}
}

type ovsPod struct {
	ns   string // network namespace, and the interface on the node
	node *ovsNode
	ips  []netip.Addr
	port int // on br-int, as NetFlow has it
	// ifindex is the number of the interface on the node, as IPFIX and sFlow have it.
	ifindex int
	// sent counts what comes to the switch from the pod, got what comes to the
	// pod from the switch.
	sent, got *lab.Tap
}

const (
	tunnelPort     = 100
	managementPort = 99
	podMTU         = 1400 // as OVN-Kubernetes has it: 100 for the tunnel
	iperfPort      = 5201
)

// switchEnv is added to the environment of the switches.
func newOVSCluster(t *testing.T, switchEnv ...string) *ovsCluster {
	c := &ovsCluster{
		t: t, lab: lab.New(t, append(lab.SwitchPrograms, "iperf3", "ping")...),
		truth: map[netip.Addr]names{}, nextPort: 10,
	}
	for i, name := range []string{"ovs-a", "ovs-b"} {
		c.nodes = append(c.nodes, &ovsNode{
			name:    name,
			address: netip.AddrFrom4([4]byte{172, 18, 0, byte(2 + i)}),
			v4:      netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 246, byte(i), 0}), 24),
			v6:      netip.MustParsePrefix(fmt.Sprintf("fd00:10:246:%d::/64", i)),
		})
		c.lab.Add(name)
	}
	a, b := c.nodes[0], c.nodes[1]
	c.lab.Pair(a.name, "underlay", b.name, "underlay", 1500)
	c.startNode(a, b, switchEnv)
	c.startNode(b, a, switchEnv)
	c.createObjects()
	return c
}

// startNode starts the switch of a node, with a tunnel to its peer.
func (c *ovsCluster) startNode(n, peer *ovsNode, env []string) {
	gateway4, gateway6 := n.v4.Addr().Next(), n.v6.Addr().Next()
	n.gatewayMAC = mac(gateway4)
	// What the switch has no time to read at once would be lost. Older kernels
	// have one number for all namespaces, which is left alone.
	_ = c.lab.Write(n.name, "core/rmem_default", strconv.Itoa(64<<20))
	n.sw = c.lab.StartSwitch(n.name, env...)
	n.sw.Vsctl("add-br", "br-ex", "--", "set", "bridge", "br-ex", "datapath_type=netdev",
		"--", "add-port", "br-ex", "underlay")
	c.lab.IP(n.name, "addr", "add", n.address.String()+"/16", "dev", "br-ex")
	for _, dev := range []string{"underlay", "br-ex"} {
		c.lab.IP(n.name, "link", "set", dev, "up")
	}
	n.sw.Vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail-mode=secure",
		"--", "add-port", "br-int", "ovn-k8s-mp0",
		"--", "set", "interface", "ovn-k8s-mp0", "type=internal", fmt.Sprintf("ofport_request=%d", managementPort),
		"--", "add-port", "br-int", "ovn-"+peer.name,
		"--", "set", "interface", "ovn-"+peer.name, "type=geneve", "options:key=flow", "options:remote_ip="+peer.address.String(),
		fmt.Sprintf("ofport_request=%d", tunnelPort))
	own := n.management()
	c.lab.IP(n.name, "link", "set", "ovn-k8s-mp0", "address", mac(own[0]), "mtu", strconv.Itoa(podMTU), "up")
	c.address(n.name, "ovn-k8s-mp0", n, own)
	for i, subnet := range []string{"10.246.0.0/16", "fd00:10:246::/48"} {
		gateway := []netip.Addr{gateway4, gateway6}[i]
		c.lab.IP(n.name, "route", "add", subnet, "via", gateway.String(), "dev", "ovn-k8s-mp0")
	}
}

// address gives an interface addresses of a node's subnets. OVN answers ARP and
// neighbour solicitations by what it knows; here everybody knows.
func (c *ovsCluster) address(ns, dev string, n *ovsNode, addrs []netip.Addr) {
	c.lab.IP(ns, "addr", "add", addrs[0].String()+"/24", "dev", dev)
	c.lab.IP(ns, "addr", "add", addrs[1].String()+"/64", "dev", dev, "nodad")
	c.neighbour(ns, dev, n.gatewayMAC, n.v4.Addr().Next(), n.v6.Addr().Next())
}

func (c *ovsCluster) neighbour(ns, dev, mac string, addrs ...netip.Addr) {
	for _, addr := range addrs {
		c.lab.IP(ns, "neigh", "replace", addr.String(), "lladdr", mac, "dev", dev, "nud", "permanent")
	}
}

// createObjects makes the Nodes and what the pods belong to.
func (c *ovsCluster) createObjects() {
	t := c.t
	t.Helper()
	ctx := t.Context()
	c.namespace = testNamespace(t)
	t.Cleanup(c.deleteObjects) // other tests have nodes and pods of the same names and addresses
	for _, n := range c.nodes {
		o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.name, Annotations: map[string]string{
			"k8s.ovn.org/node-subnets": fmt.Sprintf(`{"default":[%q,%q]}`, n.v4, n.v6),
		}}}
		o, err := kube.Client.CoreV1().Nodes().Create(ctx, o, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		o.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.address.String()}}
		if _, err := kube.Client.CoreV1().Nodes().UpdateStatus(ctx, o, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, addr := range append(n.management(), n.address) {
			c.truth[addr] = names{"Workload": n.name, "WorkloadKind": "Node", "Node": n.name}
		}
	}
	o, err := kube.Client.CoreV1().Services(c.namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "backend"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "backend"}, IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack),
			Ports: []corev1.ServicePort{
				{Name: "tcp", Port: iperfPort},
				{Name: "udp", Port: iperfPort, Protocol: corev1.ProtocolUDP},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, ip := range o.Spec.ClusterIPs {
		c.service[i] = netip.MustParseAddr(ip)
		c.truth[c.service[i]] = names{"Namespace": c.namespace, "Workload": "backend", "WorkloadKind": "Service"}
	}
}

// deleteObjects removes what would be taken for the objects of another cluster.
func (c *ovsCluster) deleteObjects() {
	ctx := context.WithoutCancel(c.t.Context()) // that of the test has ended
	for _, n := range c.nodes {
		if err := kube.Client.CoreV1().Nodes().Delete(ctx, n.name, metav1.DeleteOptions{}); err != nil {
			c.t.Error(err)
		}
	}
	if err := kube.Client.CoreV1().Pods(c.namespace).DeleteCollection(ctx, *metav1.NewDeleteOptions(0), metav1.ListOptions{}); err != nil {
		c.t.Error(err)
	}
}

// deployment and statefulSet return the owner of pods.

func (c *ovsCluster) deployment(name string) *metav1.OwnerReference {
	ref, err := deployment(c.t.Context(), c.namespace, name)
	if err != nil {
		c.t.Fatal(err)
	}
	return ref
}

func (c *ovsCluster) statefulSet(name string) *metav1.OwnerReference {
	o, err := kube.Client.AppsV1().StatefulSets(c.namespace).Create(c.t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.StatefulSetSpec{Selector: selector, Template: template},
	}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return controller(o, appsv1.SchemeGroupVersion, "StatefulSet")
}

// plug makes a pod's network: the sandbox, which has its addresses before the
// API server knows of them. host is the last part of its addresses.
func (c *ovsCluster) plug(ns string, n *ovsNode, host byte) *ovsPod {
	c.t.Helper()
	four, six := n.v4.Addr().As4(), n.v6.Addr().As16()
	four[3], six[15] = host, host
	p := &ovsPod{ns: ns, node: n, ips: []netip.Addr{netip.AddrFrom4(four), netip.AddrFrom16(six)}, port: c.nextPort}
	c.nextPort++
	c.lab.Add(ns)
	c.lab.Pair(ns, "eth0", n.name, ns, podMTU)
	if err := errors.Join(
		c.lab.Write(n.name, "ipv6/conf/"+ns+"/disable_ipv6", "1"), // the node has no business on the pod's wire
		c.lab.Write(ns, "ipv6/conf/eth0/router_solicitations", "0"),
	); err != nil {
		c.t.Fatal(err)
	}
	p.ifindex = c.lab.Ifindex(n.name, ns)
	p.sent, p.got = c.lab.Tap(n.name, ns), c.lab.Tap(ns, "eth0")
	n.sw.Vsctl("add-port", "br-int", ns, "--", "set", "interface", ns, fmt.Sprintf("ofport_request=%d", p.port))
	c.pods = append(c.pods, p)
	c.setFlows()
	c.lab.IP(n.name, "link", "set", ns, "up")
	c.lab.IP(ns, "link", "set", "eth0", "address", mac(p.ips[0]), "up")
	c.address(ns, "eth0", n, p.ips)
	for i, gateway := range []netip.Addr{n.v4.Addr().Next(), n.v6.Addr().Next()} {
		c.lab.IP(ns, "route", "add", []string{"0.0.0.0/0", "::/0"}[i], "via", gateway.String())
	}
	for _, other := range c.pods {
		if other != p && other.node == n {
			c.neighbour(ns, "eth0", mac(other.ips[0]), other.ips...)
			c.neighbour(other.ns, "eth0", mac(p.ips[0]), p.ips...)
		}
	}
	c.neighbour(ns, "eth0", mac(n.management()[0]), n.management()...)
	c.neighbour(n.name, "ovn-k8s-mp0", mac(p.ips[0]), p.ips...)
	return p
}

// exportPath gives each node a wire of its own to the collector, which takes
// what the nodes send from their management ports' addresses, as ever. A switch
// in user space drops packets now and then, datagrams of its own exports among
// them; its taps tell what it lost of the pods' packets, but nothing would tell
// what it lost of these.
func (c *ovsCluster) exportPath(collector *ovsPod) {
	c.t.Helper()
	for i, n := range c.nodes {
		const near = "export"
		far := near + strconv.Itoa(i)
		c.lab.Pair(n.name, near, collector.ns, far, podMTU)
		for _, end := range []struct {
			ns, dev, mac, peer string
			own, others        []netip.Addr
		}{
			{n.name, near, "02:00:00:00:00:01", "02:00:00:00:00:02", n.management(), collector.ips},
			{collector.ns, far, "02:00:00:00:00:02", "02:00:00:00:00:01", collector.ips, n.management()},
		} {
			c.lab.IP(end.ns, "link", "set", end.dev, "address", end.mac, "up")
			for j, to := range end.others {
				c.lab.IP(end.ns, "route", "add", to.String(), "dev", end.dev, "src", end.own[j].String())
			}
			c.neighbour(end.ns, end.dev, end.peer, end.others...)
		}
	}
}

// unplug takes a pod's network away.
func (c *ovsCluster) unplug(p *ovsPod) {
	c.t.Helper()
	p.node.sw.Vsctl("del-port", "br-int", p.ns)
	c.lab.Remove(p.ns)
	c.pods = slices.DeleteFunc(c.pods, func(o *ovsPod) bool { return o == p })
}

// schedule makes a Pod for a node, which has no addresses yet.
func (c *ovsCluster) schedule(n *ovsNode, name string, owner *metav1.OwnerReference) *corev1.Pod {
	c.t.Helper()
	o := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name},
		Spec:       corev1.PodSpec{NodeName: n.name, Containers: containers},
	}
	if owner != nil {
		o.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	o, err := kube.Client.CoreV1().Pods(c.namespace).Create(c.t.Context(), o, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return o
}

// announce writes a Pod's addresses into its status, as its kubelet does.
func (c *ovsCluster) announce(p *ovsPod, o *corev1.Pod, workload, kind string) {
	c.t.Helper()
	now, host := metav1.Now(), p.node.address.String()
	o.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &o.CreationTimestamp, HostIP: host, HostIPs: []corev1.HostIP{{IP: host}}, PodIP: p.ips[0].String(),
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue, LastTransitionTime: now},
		},
	}
	for _, ip := range p.ips {
		o.Status.PodIPs = append(o.Status.PodIPs, corev1.PodIP{IP: ip.String()})
		c.truth[ip] = names{
			"Pod": o.Name, "Namespace": o.Namespace, "HostIP": host, "Workload": workload, "WorkloadKind": kind, "Node": p.node.name,
		}
	}
	if _, err := kube.Client.CoreV1().Pods(o.Namespace).UpdateStatus(c.t.Context(), o, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// run makes a pod of a workload, from its Pod to its status.
func (c *ovsCluster) run(workload, kind, name string, owner *metav1.OwnerReference, n *ovsNode, host byte) *ovsPod {
	c.t.Helper()
	o := c.schedule(n, name, owner)
	p := c.plug(workload, n, host)
	c.announce(p, o, workload, kind)
	return p
}

// setFlows has each node's br-int route and translate: what OVN's logical
// switches and routers come down to.
func (c *ovsCluster) setFlows() {
	c.t.Helper()
	for _, n := range c.nodes {
		flows := []string{
			"table=1,priority=0,actions=resubmit(,2)",
		}
		ports := []int{managementPort, tunnelPort}
		for _, p := range c.pods {
			if p.node == n {
				ports = append(ports, p.port)
			}
		}
		for _, port := range ports { // a flow each: it counts what the port took
			flows = append(flows,
				fmt.Sprintf("table=0,priority=20,in_port=%d,ipv6,ipv6_dst=ff00::/8,actions=drop", port), // multicast listener reports
				// Exports are longer than the management port's MTU. What comes in
				// pieces needs no translation, and connection tracking would put it together.
				fmt.Sprintf("table=0,priority=15,in_port=%d,ip,ip_frag=yes,actions=resubmit(,2)", port),
				fmt.Sprintf("table=0,priority=15,in_port=%d,ipv6,ip_frag=yes,actions=resubmit(,2)", port),
				fmt.Sprintf("table=0,priority=10,in_port=%d,ip,actions=ct(nat,zone=1,table=1)", port),
				fmt.Sprintf("table=0,priority=10,in_port=%d,ipv6,actions=ct(nat,zone=1,table=1)", port))
		}
		if c.backend != nil {
			for i, match := range []string{"ip,nw_dst=", "ipv6,ipv6_dst="} {
				to := c.backend.ips[i].String()
				if i == 1 {
					to = "[" + to + "]"
				}
				flows = append(flows, fmt.Sprintf("table=1,priority=10,ct_state=+trk+new,%s%s,actions=ct(commit,zone=1,nat(dst=%s),table=2)",
					match, c.service[i], to))
			}
		}
		deliver := func(ips []netip.Addr, node *ovsNode, port int) {
			to := fmt.Sprintf("output:%d", port)
			if node != n {
				to = fmt.Sprintf("set_field:1->tun_id,output:%d", tunnelPort)
			}
			for i, match := range []string{"ip,nw_dst=", "ipv6,ipv6_dst="} {
				flows = append(flows, fmt.Sprintf("table=2,priority=20,dl_dst=%s,%s%s,actions=mod_dl_src:%s,mod_dl_dst:%s,dec_ttl,%s",
					n.gatewayMAC, match, ips[i], n.gatewayMAC, mac(ips[0]), to))
			}
			flows = append(flows, fmt.Sprintf("table=2,priority=10,dl_dst=%s,actions=%s", mac(ips[0]), to))
		}
		for _, p := range c.pods {
			deliver(p.ips, p.node, p.port)
		}
		for _, other := range c.nodes {
			deliver(other.management(), other, managementPort)
		}
		n.sw.SetFlows("br-int", flows)
	}
}

// collect starts the program in the collector's pod, with the rights that the
// example manifest gives.
func (c *ovsCluster) collect(p *ovsPod, args ...string) *ovsCollector {
	t := c.t
	t.Helper()
	e := &ovsCollector{enricher: &enricher{http: c.forwarded(p)}, cluster: c}
	e.stdout = lineWriter{mu: &e.mu, line: e.addRecord}
	e.stderr = lineWriter{mu: &e.mu, line: e.addLog}
	cmd := c.lab.Command(p.ns, append([]string{
		binary, "-listen", "netflow://:2055,sflow://:6343", "-addr", ":8080", "-logfmt", "json",
		"-kubeconfig", kubeconfig(t, metav1.NamespaceDefault, account),
		"-mapping", "SrcAddr=Src,DstAddr=Dst,SamplerAddress=Sampler",
		"-fields", "default,+PNode,+FlowDirection",
	}, args...)...)
	cmd.Env = command(t).Env
	e.launch(t, cmd)
	e.waitReady(t)
	return e
}

// forwarded is an address at which the collector's HTTP server can be reached.
// The collector itself reaches the API server where its kubeconfig says.
func (c *ovsCluster) forwarded(p *ovsPod) string {
	c.t.Helper()
	port := harness.FreePort(c.t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	c.lab.Forward("", addr, p.ns, "127.0.0.1:8080")
	return addr
}

// ovsCollector is the running program, and what it wrote.
type ovsCollector struct {
	*enricher
	cluster *ovsCluster
	all     []*ovsRecord
}

// ovsRecord is a record, and the parts of it that are compared.
type ovsRecord struct {
	record
	kind string // Type
	lab.Conversation
	node        *ovsNode // that exported it
	egress      bool
	inIf, outIf int
	rate        int
	count       lab.Count // Bytes as the record has them
}

func (e *ovsCollector) addRecord(line []byte) {
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		e.bad = append(e.bad, string(line))
		return
	}
	addr := func(field string) netip.Addr { a, _ := netip.ParseAddr(fmt.Sprint(r[field])); return a }
	number := func(field string) int { n, _ := r[field].(float64); return int(n) }
	o := &ovsRecord{
		record: r, kind: fmt.Sprint(r["Type"]),
		Conversation: lab.Conversation{Src: addr("SrcAddr"), Dst: addr("DstAddr"), Proto: uint8(number("Proto"))},
		egress:       number("FlowDirection") == 1, inIf: number("InIf"), outIf: number("OutIf"), rate: number("SamplingRate"),
		count: lab.Count{Packets: number("Packets"), Bytes: number("Bytes")},
	}
	if o.Proto == 6 || o.Proto == 17 {
		o.SrcPort, o.DstPort = uint16(number("SrcPort")), uint16(number("DstPort"))
	}
	for _, n := range e.cluster.nodes {
		if slices.Contains(n.management(), addr("SamplerAddress")) {
			o.node = n
		}
	}
	e.all = append(e.all, o)
}

// mark is a point in the output.
func (e *ovsCollector) mark() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.all)
}

// since returns the records since a mark for which match is true.
func (e *ovsCollector) since(mark int, match func(*ovsRecord) bool) []*ovsRecord {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []*ovsRecord
	for _, r := range e.all[mark:] {
		if match(r) {
			found = append(found, r)
		}
	}
	return found
}

// scaled is what the record stands for: Open vSwitch's IPFIX has it already, and
// says no rate.
func (r *ovsRecord) scaled() lab.Count {
	return lab.Count{Packets: r.count.Packets * max(1, r.rate), Bytes: r.count.Bytes * max(1, r.rate)}
}

func (r *ovsRecord) ends(prefix string) names {
	n := r.names(prefix)
	if node, ok := r.record[prefix+"Node"]; ok {
		n["Node"] = fmt.Sprint(node)
	}
	return n
}

// The commands of OVN-Kubernetes (setOVSFlowTargets of its node controller) for
// OVN_IPFIX_TARGETS, OVN_NETFLOW_TARGETS and OVN_SFLOW_TARGETS.

type ipfixOptions struct{ sampling, activeTimeout, maxFlows int }

var (
	ovnDefaults = ipfixOptions{sampling: 400, activeTimeout: 60}
	everyPacket = ipfixOptions{sampling: 1, activeTimeout: 2, maxFlows: 10000}
)

func (n *ovsNode) exportIPFIX(target string, o ipfixOptions) {
	args := []string{
		"--", "--id=@ipfix", "create", "ipfix", fmt.Sprintf("targets=[%q]", target),
		fmt.Sprintf("cache_active_timeout=%d", o.activeTimeout),
	}
	if o.maxFlows != 0 {
		args = append(args, fmt.Sprintf("cache_max_flows=%d", o.maxFlows))
	}
	if o.sampling != 0 {
		args = append(args, fmt.Sprintf("sampling=%d", o.sampling))
	}
	n.sw.Vsctl(append(args, "--", "set", "bridge", "br-int", "ipfix=@ipfix")...)
}

func (n *ovsNode) exportNetFlow(target string) {
	n.sw.Vsctl("--", "--id=@netflow", "create", "netflow", fmt.Sprintf("targets=[%q]", target), "active_timeout=60",
		"--", "set", "bridge", "br-int", "netflow=@netflow")
}

// exportSFlow may get further columns, which OVN-Kubernetes leaves alone.
func (n *ovsNode) exportSFlow(target string, columns ...string) {
	args := append([]string{"--", "--id=@sflow", "create", "sflow", "agent=ovn-k8s-mp0", fmt.Sprintf("targets=[%q]", target)}, columns...)
	n.sw.Vsctl(append(args, "--", "set", "bridge", "br-int", "sflow=@sflow")...)
}

// serve starts a server that [ovsCluster.converse] talks to.
func (c *ovsCluster) serve(p *ovsPod) {
	c.t.Helper()
	c.lab.Start(p.ns, "iperf3", "--server", "--port", strconv.Itoa(iperfPort))
	harness.Eventually(c.t, soon, "server in "+p.ns, func() (bool, any) { return c.lab.Listening(p.ns, iperfPort), nil })
}

// tcp sends bytes from one pod to an address. The window is so small that all
// of it finds room where the switch reads.
func (c *ovsCluster) tcp(from *ovsPod, to netip.Addr, bytes string) {
	c.t.Helper()
	c.lab.Exec(from.ns, "iperf3", "--client", to.String(), "--port", strconv.Itoa(iperfPort), "--connect-timeout", "5000",
		"--window", "48K", "--bytes", bytes)
}

// converse sends TCP, UDP and ICMP from one pod to an address.
func (c *ovsCluster) converse(from *ovsPod, to netip.Addr) {
	c.t.Helper()
	c.tcp(from, to, "2M")
	c.lab.Exec(from.ns, "iperf3", "--client", to.String(), "--port", strconv.Itoa(iperfPort), "--connect-timeout", "5000",
		"--udp", "--bitrate", "5M", "--length", "1200", "--bytes", "200K")
	if !slices.Contains(c.service[:], to) {
		c.lab.Exec(from.ns, "ping", "-q", "-c", "5", "-i", "0.01", to.String())
	}
}

// reach waits until one can send to an address: the switches have to find each
// other first, and lose what is sent before.
func (c *ovsCluster) reach(ns string, to netip.Addr) {
	c.t.Helper()
	for range 20 {
		if c.lab.Try(ns, "ping", "-q", "-c", "1", "-W", "1", to.String()) == nil {
			return
		}
	}
	c.t.Fatalf("no answer from %s", to)
}

// view is a kind of records that count the same packets as a tap.
type view struct {
	name  string
	match func(p *ovsPod, r *ovsRecord) bool
	got   bool                // what the pod got; else what it sent
	bytes func(lab.Count) int // how the protocol counts bytes
	skip  func(lab.Conversation) bool
	// others reports whether there are records of later conversations, too.
	others bool
}

var (
	ipBytes    = func(c lab.Count) int { return c.Bytes }
	frameBytes = func(c lab.Count) int { return c.Frames }
	nothing    = func(lab.Conversation) bool { return false }

	ingressIPFIX = view{
		name: "IPFIX at ingress", bytes: ipBytes, skip: nothing,
		match: func(p *ovsPod, r *ovsRecord) bool { return r.kind == "IPFIX" && !r.egress && r.inIf == p.ifindex },
	}
	egressIPFIX = view{
		name: "IPFIX at egress", bytes: ipBytes, skip: nothing, got: true,
		match: func(p *ovsPod, r *ovsRecord) bool { return r.kind == "IPFIX" && r.egress && r.outIf == p.ifindex },
	}
	// sFlow counts an Ethernet frame with its checksum.
	ingressSFlow = view{
		name: "sFlow", bytes: func(c lab.Count) int { return c.Frames + 4*c.Packets }, skip: nothing,
		match: func(p *ovsPod, r *ovsRecord) bool { return r.kind == "SFLOW_5" && r.inIf == p.ifindex },
	}
	// Open vSwitch's NetFlow counts Ethernet frames, too, though without it, and
	// the number of an interface is that of the OpenFlow port.
	ingressNetFlow = view{
		name: "NetFlow v5", bytes: frameBytes, others: true, skip: func(c lab.Conversation) bool { return c.Src.Is6() },
		match: func(p *ovsPod, r *ovsRecord) bool { return r.kind == "NETFLOW_V5" && r.inIf == p.port },
	}
)

// wire is what the interfaces of a pod counted.
type wire struct {
	sent, got map[lab.Conversation]lab.Count
	// lost is how many packets of what was sent the switch did not take: what comes
	// while it is kept from running finds no room.
	lost int
}

// wires returns what the interfaces of pods have counted so far.
func (c *ovsCluster) wires(pods []*ovsPod) map[*ovsPod]wire {
	c.t.Helper()
	all := map[*ovsPod]wire{}
	for _, p := range pods {
		harness.Eventually(c.t, soon, "count of all packets of "+p.ns, func() (bool, any) {
			sent, complete1 := p.sent.Counts()
			got, complete2 := p.got.Counts()
			all[p] = wire{sent: sent, got: got}
			return complete1 && complete2, nil
		})
		w := all[p]
		for deadline := time.Now().Add(5 * time.Second); ; { // the switch counts with a delay
			w.lost = -p.node.sw.Taken("br-int", p.port)
			for _, count := range w.sent {
				w.lost += count.Packets
			}
			if w.lost <= 0 || time.Now().After(deadline) {
				break
			}
		}
		if w.lost > 0 {
			c.t.Logf("the switch lost %d packets of %s", w.lost, p.ns)
		}
		all[p] = w
	}
	return all
}

// compare returns what differs between the records of a view and what a pod's
// interfaces counted.
func (c *ovsCluster) compare(e *ovsCollector, v view, p *ovsPod, w wire) (differences []string) {
	records := map[lab.Conversation]lab.Count{}
	for _, r := range e.since(0, func(r *ovsRecord) bool { return r.node == p.node && v.match(p, r) }) {
		sum := records[r.Conversation]
		sum.Add(r.scaled())
		records[r.Conversation] = sum
	}
	counts, lost, missing := w.got, 0, 0
	if !v.got {
		counts, lost = w.sent, w.lost
	}
	for conversation, count := range counts {
		if v.skip(conversation) {
			continue
		}
		r := records[conversation]
		delete(records, conversation)
		missing += count.Packets - r.Packets
		if r.Packets == count.Packets && r.Bytes == v.bytes(count) || lost > 0 && r.Packets < count.Packets && r.Bytes < v.bytes(count) {
			continue
		}
		differences = append(differences, fmt.Sprintf("%v: %d packets with %d bytes in records, %d with %d on the wire",
			conversation, r.Packets, r.Bytes, count.Packets, v.bytes(count)))
	}
	if missing > lost {
		differences = append(differences, fmt.Sprintf("%d packets are missing, the switch lost %d", missing, lost))
	}
	for conversation, r := range records {
		if !v.others {
			differences = append(differences, fmt.Sprintf("%v: %d packets in records, none on the wire", conversation, r.Packets))
		}
	}
	return differences
}

// checkSums waits until the records of each view hold exactly what the pods'
// interfaces counted.
func (c *ovsCluster) checkSums(e *ovsCollector, timeout time.Duration, wires map[*ovsPod]wire, views ...view) {
	c.t.Helper()
	for _, v := range views {
		for p, w := range wires {
			harness.Eventually(c.t, timeout, fmt.Sprintf("equality of %s and the wire of %s", v.name, p.ns), func() (bool, any) {
				e.checkAlive(c.t)
				differences := c.compare(e, v, p, w)
				return len(differences) == 0, strings.Join(differences, "\n")
			})
		}
	}
}

// checkSampled waits until the records of a view since a mark, which are of one
// packet in so many, hold as much of a conversation as a pod's interface
// counted, within five standard deviations.
func (c *ovsCluster) checkSampled(e *ovsCollector, v view, p *ovsPod, mark, sampling int, conversation lab.Conversation, want lab.Count) {
	c.t.Helper()
	if v.skip(conversation) {
		return
	}
	harness.Eventually(c.t, soon, fmt.Sprintf("about %v of %v in %s", want, conversation, v.name), func() (bool, any) {
		e.checkAlive(c.t)
		var sum lab.Count
		records := e.since(mark, func(r *ovsRecord) bool {
			return r.node == p.node && v.match(p, r) && r.Conversation == conversation
		})
		for _, r := range records {
			sum.Add(r.scaled())
		}
		// Of n packets n/s are taken, give or take the root of that, and each stands for s.
		packets := 5 * math.Sqrt(float64(want.Packets*sampling))
		bytes := packets * float64(v.bytes(want)) / float64(want.Packets) // all are about as long
		return math.Abs(float64(sum.Packets-want.Packets)) < packets && math.Abs(float64(sum.Bytes-v.bytes(want))) < bytes,
			fmt.Sprintf("%v in %d records", sum, len(records))
	})
}

// checkNames checks the names of both ends of all records, and that the exporter
// is the node that it is.
func (c *ovsCluster) checkNames(records []*ovsRecord) {
	c.t.Helper()
	for _, r := range records {
		ends := []struct {
			prefix string
			addr   netip.Addr
		}{{"Src", r.Src}, {"Dst", r.Dst}}
		for _, end := range ends {
			if got, want := r.ends(end.prefix), c.truth[end.addr]; !maps.Equal(got, want) {
				c.t.Errorf("%s of %v %v: %v, want %v", end.prefix, r.kind, r.Conversation, got, want)
			}
		}
		if r.node == nil {
			c.t.Errorf("exported by %v, which is no node's management port", r.record["SamplerAddress"])
		} else if got, want := r.ends("Sampler"), c.truth[r.node.management()[0]]; !maps.Equal(got, want) {
			c.t.Errorf("exporter %v, want %v", got, want)
		}
	}
}

func all(*ovsRecord) bool { return true }

// What Open vSwitch reports of pods' traffic is named after the right pods, and
// adds up to what their interfaces counted: IPFIX, sFlow and NetFlow v5, exported
// as OVN-Kubernetes has them exported.
//
// It runs beside nothing else: two nodes' switches want a processor.
func TestOpenvSwitch(t *testing.T) {
	c := newOVSCluster(t)
	a, b := c.nodes[0], c.nodes[1]
	collector := c.run("goflow", "Deployment", "goflow-5d9c7b8f64-9sd2w", c.deployment("goflow"), a, 9)
	c.exportPath(collector)
	c.lab.Forward(collector.ns, kube.Address(), "", kube.Address())
	templates := filepath.Join(t.TempDir(), "templates")
	e := c.collect(collector, "-templates.file", templates)
	target := func(i int, port string) string { return net.JoinHostPort(collector.ips[i].String(), port) }
	export := func(ipfix ipfixOptions, sflow ...string) {
		for i, n := range c.nodes {
			n.exportIPFIX(target(i, "2055"), ipfix) // one node over IPv4, one over IPv6
			n.exportSFlow(target(0, "6343"), sflow...)
		}
	}
	for _, n := range c.nodes {
		c.reach(n.name, collector.ips[0])
		c.reach(n.name, collector.ips[1])
		n.exportNetFlow(target(0, "2055"))
	}
	export(everyPacket, "sampling=1")

	// From here on all that the pods say is exported.
	client := c.run("frontend", "Deployment", "frontend-5d9c7b8f64-x2k4p", c.deployment("frontend"), a, 5)
	db := c.run("db", "StatefulSet", "db-0", c.statefulSet("db"), a, 6)
	backend := c.run("backend", "Deployment", "backend-5d9c7b8f64-lm8vq", c.deployment("backend"), b, 7)
	c.backend = backend
	c.setFlows()
	c.serve(db)
	c.serve(backend)
	begin := time.Now()
	step := func(what string) { t.Logf("%5.1f s: %s", time.Since(begin).Seconds(), what) }

	step("every packet")
	for i := range 2 {
		c.converse(client, db.ips[i])
		c.converse(client, backend.ips[i])
		c.converse(client, c.service[i])
	}
	wires := c.wires([]*ovsPod{client, db, backend})
	c.checkSums(e, soon, wires, ingressIPFIX, egressIPFIX, ingressSFlow)
	c.checkNames(e.since(0, all))
	c.checkService(e, client)

	step("one packet in 400")
	c.sample(e, client, backend, func() { export(ovnDefaults) })

	step("churn")
	export(everyPacket, "sampling=1")
	w := c.churn(db, b)
	w.check(e, soon, "IPFIX", "SFLOW_5")

	step("NetFlow, a minute later")
	c.checkSums(e, netflowPatience, wires, ingressNetFlow)
	w.check(e, netflowPatience, "NETFLOW_V5")

	step("restart without templates")
	known := sum(e.metrics(t), "templates")
	c.finish(e)
	e = c.collect(collector)
	harness.Eventually(t, soon, "held sets without templates", func() (bool, any) {
		c.ping(client, db)
		m := e.metrics(t)
		return sum(m, "sets_held") > 0 && sum(m, "templates") == 0, fmt.Sprint(sum(m, "sets_held"), " held")
	})
	e.terminate(t)

	step("restart with templates")
	e = c.collect(collector, "-templates.file", templates)
	harness.Eventually(t, soon, "IPFIX of both nodes after a restart", func() (bool, any) {
		c.ping(client, db)
		c.ping(client, backend)
		var from [2]int
		for i, n := range c.nodes {
			from[i] = len(e.since(0, func(r *ovsRecord) bool { return r.kind == "IPFIX" && r.node == n }))
		}
		return from[0] > 0 && from[1] > 0, from
	})
	if got := sum(e.metrics(t), "templates"); got != known {
		t.Errorf("%v templates after the restart, %v before", got, known)
	}
	c.checkNames(e.since(0, all))
	c.finish(e)
	step("end")
}

// netflowPatience is longer than the active timeout with which OVN-Kubernetes
// has NetFlow exported.
const netflowPatience = 60*time.Second + soon

// finish ends the program. Nothing may have been undecodable, and it may have complained of nothing
// but what is known.
func (c *ovsCluster) finish(e *ovsCollector, known ...string) {
	t := c.t
	t.Helper()
	checkLedger(t, e.enricher, -1)
	m := e.metrics(t)
	for _, name := range []string{"sets_held", "sets_dropped_total", "datagrams_dropped_total", "records_dropped_total"} {
		if n := sum(m, name); n != 0 {
			t.Errorf("%s is %v", name, n)
		}
	}
	for _, s := range m["kube_enricher_sequence_lost_total"].GetMetric() {
		// sFlow's numbers begin anew with other settings.
		if protocol := s.GetLabel()[0].GetValue(); protocol != "sflow_5" && s.GetCounter().GetValue() != 0 {
			t.Errorf("%v lost of %s by its sequence numbers", s.GetCounter().GetValue(), protocol)
		}
	}
	for _, l := range e.complaints() {
		if !slices.ContainsFunc(known, func(k string) bool { return strings.Contains(l.raw, k) }) {
			t.Errorf("the program complained: %v", l)
		}
	}
	e.terminate(t)
}

// ping has two pods say hello, over IPv4 and IPv6.
func (c *ovsCluster) ping(from, to *ovsPod) {
	c.t.Helper()
	for _, addr := range to.ips {
		c.lab.Exec(from.ns, "ping", "-q", "-c", "1", "-W", "5", addr.String())
	}
}

// checkService checks that a packet to the service is reported before its
// translation, with the service, and after it, with the pod behind.
func (c *ovsCluster) checkService(e *ovsCollector, from *ovsPod) {
	c.t.Helper()
	for i, service := range c.service {
		for _, want := range []struct {
			what   string
			node   *ovsNode
			egress bool
			dst    netip.Addr
		}{
			{"ingress at the client's node", from.node, false, service},
			{"ingress at the backend's node", c.backend.node, false, c.backend.ips[i]},
			{"egress at the backend's node", c.backend.node, true, c.backend.ips[i]},
		} {
			found := e.since(0, func(r *ovsRecord) bool {
				return r.kind == "IPFIX" && r.Src == from.ips[i] && r.Dst == want.dst && r.node == want.node && r.egress == want.egress
			})
			if len(found) == 0 {
				c.t.Errorf("service %s: no record of %s", service, want.what)
			}
		}
		back := e.since(0, func(r *ovsRecord) bool {
			return r.kind == "IPFIX" && r.Src == service && r.Dst == from.ips[i] && r.node == from.node && r.egress
		})
		if len(back) == 0 {
			c.t.Errorf("service %s: no record of its answers", service)
		}
	}
}

// sample sends enough for a sample of it, and compares that with the wire.
func (c *ovsCluster) sample(e *ovsCollector, from, to *ovsPod, export func()) {
	c.t.Helper()
	before := c.wires([]*ovsPod{from, to})
	mark := e.mark()
	export()
	for i := range 2 {
		c.tcp(from, to.ips[i], "80M")
	}
	after := c.wires([]*ovsPod{from, to})
	found := 0
	for conversation, sent := range after[from].sent {
		const enough = 40000 // packets: 100 samples
		if before[from].sent[conversation].Packets > 0 || sent.Packets < enough {
			continue
		}
		found++
		c.checkSampled(e, ingressIPFIX, from, mark, ovnDefaults.sampling, conversation, sent)
		c.checkSampled(e, ingressSFlow, from, mark, ovnDefaults.sampling, conversation, sent)
		c.checkSampled(e, egressIPFIX, to, mark, ovnDefaults.sampling, conversation, after[to].got[conversation])
	}
	if found != 2 {
		c.t.Errorf("%d conversations are long enough, want one of each family", found)
	}
	c.checkNames(e.since(mark, all))
}

// workers are pods that had the same addresses, one after the other.
type workers struct {
	c     *ovsCluster
	peer  *ovsPod
	node  *ovsNode // theirs
	ips   []netip.Addr
	truth []map[netip.Addr]names // while each had the addresses
}

const (
	workerCount = 3
	workerPort  = 7001 // of the first one, the others have the next ones
	earlyPort   = 7100 // of the peer, before the API server knows of the worker
	peerPort    = 7101 // of the peer, after that
	datagrams   = 50   // go each way for each family, two times
)

// churn has pods with the same addresses come and go. They talk with a peer
// before the API server knows of them, and until they are deleted.
func (c *ovsCluster) churn(peer *ovsPod, n *ovsNode) *workers {
	t := c.t
	t.Helper()
	w := &workers{c: c, peer: peer, node: n}
	for i := range workerCount {
		name := fmt.Sprintf("worker-%d", i+1)
		o := c.schedule(n, name, nil)
		p := c.plug(name, n, 8)
		w.ips = p.ips
		talk := func(port uint16) {
			for j, addr := range p.ips {
				here, there := netip.AddrPortFrom(addr, uint16(workerPort+i)), netip.AddrPortFrom(peer.ips[j], port)
				c.lab.Send(p.ns, here, there, datagrams, 500)
				c.lab.Send(peer.ns, there, here, datagrams, 500)
			}
		}
		talk(earlyPort)
		c.announce(p, o, name, "Pod")
		w.truth = append(w.truth, maps.Clone(c.truth))
		talk(peerPort)
		if i == workerCount-1 {
			break
		}
		if err := kube.Client.CoreV1().Pods(c.namespace).Delete(t.Context(), name, *metav1.NewDeleteOptions(0)); err != nil {
			t.Fatal(err)
		}
		c.unplug(p)
		// The exporters' times are not better than a second: IPFIX has them rounded
		// up, sFlow has none and waits so long for a datagram to be full. With
		// 1.5 s between them, one NetFlow record in some 500 was ambiguous.
		handover := time.NewTimer(2500 * time.Millisecond)
		select {
		case <-handover.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
	return w
}

// check waits until each worker's packets are in records of some kinds, and
// checks that these name no other worker.
func (w *workers) check(e *ovsCollector, timeout time.Duration, kinds ...string) {
	t := w.c.t
	t.Helper()
	for _, kind := range kinds {
		var records []*ovsRecord
		harness.Eventually(t, timeout, kind+" of all workers", func() (bool, any) {
			records = e.since(0, func(r *ovsRecord) bool {
				return r.kind == kind && r.Proto == 17 && slices.Contains([]uint16{earlyPort, peerPort}, max(r.SrcPort, r.DstPort)) &&
					min(r.SrcPort, r.DstPort)-workerPort < workerCount
			})
			sums := map[lab.Conversation]int{} // by the sender's node, as it comes in
			for _, r := range records {
				from := w.node
				if r.Src == w.peer.ips[0] || r.Src == w.peer.ips[1] {
					from = w.peer.node
				}
				if r.node == from && !r.egress {
					sums[r.Conversation] += r.scaled().Packets
				}
			}
			for conversation, n := range sums {
				// With a port Open vSwitch forgets what its last packets would add to
				// NetFlow.
				if n != datagrams && (kind != "NETFLOW_V5" || n == 0 || n > datagrams) {
					return false, fmt.Sprintf("%d packets of %v", n, conversation)
				}
			}
			want := workerCount * 2 * 2 * 2 // directions, families, times
			if kind == "NETFLOW_V5" {
				want /= 2
			}
			return len(sums) == want, fmt.Sprintf("%d of %d conversations", len(sums), want)
		})
		wrong := map[string]int{}
		for _, r := range records {
			worker := int(min(r.SrcPort, r.DstPort)) - workerPort
			for prefix, addr := range map[string]netip.Addr{"Src": r.Src, "Dst": r.Dst} {
				got, want := r.ends(prefix), w.truth[worker][addr]
				if slices.Contains(w.ips, addr) && max(r.SrcPort, r.DstPort) == earlyPort {
					delete(got, "Warn") // so early its predecessor may have had the address
				}
				if !maps.Equal(got, want) {
					wrong[fmt.Sprintf("%s of %v %v: %v, want %v", prefix, kind, r.Conversation, got, want)]++
				}
			}
		}
		for what, n := range wrong {
			t.Errorf("%d of %d records: %s", n, len(records), what)
		}
	}
}
