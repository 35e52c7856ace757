package enrich

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// objectOf returns the object of one in YAML.
func objectOf(t testing.TB, text string) *object {
	t.Helper()
	o, err := parseObjects([]byte(text), nil)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for k := range numKinds {
		if len(o.items[k]) == 1 {
			return o.items[k][0]
		}
	}
	t.Fatalf("no object in %s", text)
	return nil
}

// service returns a Service with the given spec and load balancer's addresses.
func service(name, created, spec string, balancers ...string) string {
	var ingress []string
	for _, b := range balancers {
		ingress = append(ingress, "{ip: "+b+"}")
	}
	return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: %s, namespace: ns, uid: u-%s, creationTimestamp: %q}, spec: {%s}, status: {loadBalancer: {ingress: [%s]}}}",
		name, name, created, spec, strings.Join(ingress, ","))
}

func node(name, extra, addrs string) string {
	var list []string
	for a := range strings.SplitSeq(addrs, ",") {
		list = append(list, "{type: InternalIP, address: \""+a+"\"}")
	}
	return fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: %s, uid: u-%s, labels: {topology.kubernetes.io/zone: z-%s}%s}, status: {addresses: [%s], conditions: [{type: Ready, status: \"True\"}]}}",
		name, name, name, extra, strings.Join(list, ","))
}

// showPort describes who owned a port of an address at a time, and on which node.
func (e *Enricher) showPort(ip string, protocol, number uint32, seconds float64) string {
	end, _ := e.store.index.lookup(addr(ip), at(seconds), at(seconds), 0, newPort(protocol, number))
	s := show(end)
	if end.Object != nil && end.Object.Kind == "Service" && end.Object.Node != "" {
		s += " on " + end.Object.Node + " " + end.Object.Zone
	}
	return s
}

func TestServicePorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		for _, text := range []string{
			node("n1", "", "192.0.2.1,fd00::1"), node("n2", "", "192.0.2.2"),
			service("dns", rfc(0), "clusterIP: 10.96.0.1, ports: [{port: 53, protocol: UDP},{port: 53, protocol: TCP}]", "198.51.100.1"),
			service("web", rfc(0), "clusterIP: 10.96.0.2, externalIPs: [198.51.100.2], ports: [{port: 443, nodePort: 30443},{port: 9000, protocol: SCTP, nodePort: 30443}]", "198.51.100.1"),
			service("edge", rfc(0), "clusterIP: 10.96.0.3, ports: [{port: 80}]", "192.0.2.1", "192.0.2.2"),
			service("twin", rfc(0), "clusterIP: 10.96.0.4, ports: [{port: 443}]", "198.51.100.2"),
		} {
			e.store.update(objectOf(t, text))
		}
		for _, c := range []struct {
			ip               string
			protocol, number uint32
			want             string
		}{
			{"10.96.0.1", 6, 53, "dns service"},
			{"10.96.0.1", 6, 12345, "dns service"}, // a cluster IP has all ports
			{"10.96.0.1", 1, 0, "dns service"},
			{"198.51.100.1", 17, 53, "dns service"},
			{"198.51.100.1", 6, 53, "dns service"},
			{"198.51.100.1", 6, 443, "web service"},
			{"198.51.100.1", 132, 9000, "web service"},
			{"198.51.100.1", 6, 9000, "dns ambiguous"}, // SCTP alone has it
			{"198.51.100.1", 0, 0, "dns ambiguous"},
			{"198.51.100.2", 6, 443, "twin ambiguous"},
			{"192.0.2.1", 6, 80, "edge service on n1 z-n1"},
			{"192.0.2.2", 6, 80, "edge service on n2 z-n2"},
			{"192.0.2.1", 17, 80, "n1 node"},
			{"192.0.2.1", 6, 10250, "n1 node"},
			{"192.0.2.1", 0, 0, "n1 node"},
			{"192.0.2.1", 6, 30443, "web service on n1 z-n1"},
			{"fd00::1", 132, 30443, "web service on n1 z-n1"},
			{"fd00::1", 17, 30443, "n1 node"},
			{"192.0.2.2", 6, 30443 + 256, "n2 node"}, // of the same bucket
		} {
			if got := e.showPort(c.ip, c.protocol, c.number, 2); got != c.want {
				t.Errorf("%s port %d/%d: %s, want %s", c.ip, c.number, c.protocol, got, c.want)
			}
		}
		if x := e.ExplainPort(addr("192.0.2.1"), 6, 30443, epoch.Add(2e9)); x.Rule != "service" || !strings.Contains(x.Why, "node port") || x.Port != "30443/TCP" || x.Chosen.Node != "n1" {
			t.Errorf("%+v", x)
		}
		if x := e.ExplainPort(addr("198.51.100.1"), 6, 443, epoch.Add(2e9)); x.Rule != "service" || !strings.Contains(x.Why, "at that port") || len(x.Owners) != 2 || x.Owners[1].Ports[0] != "443/TCP" {
			t.Errorf("%+v", x)
		}
	})
}

// Services and nodes keep their names for flows of their time.
func TestStaticHistory(t *testing.T) {
	held(t, Config{}, func(t *testing.T, e *Enricher) {
		st := e.store
		st.replace(kindPod, nil)
		spec := "clusterIP: %s, ports: [{port: 443, nodePort: %d}]"
		a := service("a", rfc(0), fmt.Sprintf(spec, "10.96.0.1", 30001), "198.51.100.1")
		b := service("b", rfc(0), fmt.Sprintf(spec, "10.96.0.2", 30002))
		st.update(objectOf(t, node("n", "", "192.0.2.1")))
		st.update(objectOf(t, a))
		st.update(objectOf(t, b))
		after(100)
		// The balancer's address goes from a to b, and then both go.
		st.update(objectOf(t, service("a", rfc(0), fmt.Sprintf(spec, "10.96.0.1", 30001))))
		after(10)
		st.update(objectOf(t, service("b", rfc(0), fmt.Sprintf(spec, "10.96.0.2", 30002), "198.51.100.1")))
		after(90)
		st.remove(objectOf(t, a)) // at 200
		st.remove(objectOf(t, b))
		st.remove(objectOf(t, node("n", "", "192.0.2.1")))
		after(10)
		// Their cluster IP and node port are used again.
		st.update(objectOf(t, service("c", rfc(210), fmt.Sprintf(spec, "10.96.0.1", 30001))))
		st.update(objectOf(t, node("m", ", creationTimestamp: \""+rfc(210)+"\"", "192.0.2.1")))
		after(100)
		for _, c := range []struct {
			ip   string
			port uint32
			at   float64
			want string
		}{
			{"198.51.100.1", 443, 50, "a service"},
			{"198.51.100.1", 443, 101, "a service"}, // within the tolerance
			{"198.51.100.1", 443, 105, "none"},
			{"198.51.100.1", 443, 150, "b service"},
			{"198.51.100.1", 443, 205, "none"},
			{"10.96.0.1", 443, 150, "a service"},
			{"10.96.0.1", 443, 205, "none"},
			{"10.96.0.1", 443, 250, "c service"},
			{"10.96.0.1", 443, -10, "none"}, // before it was made
			{"10.96.0.2", 443, 150, "b service"},
			{"192.0.2.1", 0, 150, "n node"},
			{"192.0.2.1", 30001, 150, "a service on n z-n"},
			{"192.0.2.1", 30001, 250, "c service on m z-m"},
			{"192.0.2.1", 30002, 250, "m node"},
			{"192.0.2.1", 0, 250, "m node"},
		} {
			if got := e.showPort(c.ip, 6, c.port, c.at); got != c.want {
				t.Errorf("%s port %d at %v: %s, want %s", c.ip, c.port, c.at, got, c.want)
			}
		}
		st.remove(objectOf(t, service("c", rfc(210), fmt.Sprintf(spec, "10.96.0.1", 30001))))
		st.remove(objectOf(t, node("m", ", creationTimestamp: \""+rfc(210)+"\"", "192.0.2.1")))
		after(defaultRetain.Seconds() + 2*sweepEvery.Seconds())
		if st.index.used != 0 || st.endedStatics.len() != 0 {
			t.Errorf("%d addresses and %d spans are left", st.index.used, st.endedStatics.len())
		}
		for i := range st.index.nodePorts.buckets {
			if list := st.index.nodePorts.buckets[i].Load(); list != nil && len(*list) > 0 {
				t.Errorf("node ports are left: %v", *list)
			}
		}
	})
}

// A port of a shared address goes from one Service to another.
func TestPortHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		spec := func(name, ip, ports string) *object {
			return objectOf(t, service(name, rfc(0), "clusterIP: "+ip+", ports: ["+ports+"]", "198.51.100.1"))
		}
		e.store.update(spec("a", "10.96.0.1", "{port: 80},{port: 443}"))
		e.store.update(spec("b", "10.96.0.2", "{port: 25}"))
		after(100)
		e.store.update(spec("a", "10.96.0.1", "{port: 80}"))
		e.store.update(spec("b", "10.96.0.2", "{port: 25},{port: 443}"))
		after(100)
		for _, c := range []struct {
			port uint32
			at   float64
			want string
		}{{443, 50, "a service"}, {443, 150, "b service"}, {80, 50, "a service"}, {80, 150, "a service"}, {25, 50, "b service"}, {25, 150, "b service"}} {
			if got := e.showPort("198.51.100.1", 6, c.port, c.at); got != c.want {
				t.Errorf("port %d at %v: %s, want %s", c.port, c.at, got, c.want)
			}
		}
	})
}

// While the watch was away, an address went from one Service to another: at a time that nobody saw.
func TestStaticGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		spec := "clusterIP: %s, ports: [{port: 443}]"
		a := objectOf(t, service("a", rfc(0), fmt.Sprintf(spec, "10.96.0.1"), "198.51.100.1"))
		b := objectOf(t, service("b", rfc(0), fmt.Sprintf(spec, "10.96.0.2")))
		e.store.markStarted(kindService)
		e.store.replace(kindService, []*object{a, b})
		after(100)
		e.store.onBookmark(kindService)
		e.store.onDisconnected(kindService, true)
		after(100)
		e.store.replace(kindService, []*object{
			objectOf(t, service("a", rfc(0), fmt.Sprintf(spec, "10.96.0.1"))),
			objectOf(t, service("b", rfc(0), fmt.Sprintf(spec, "10.96.0.2"), "198.51.100.1")),
		})
		after(100)
		for when, want := range map[float64]string{50: "a service", 150: "a ambiguous", 250: "b service"} {
			if got := e.showPort("198.51.100.1", 6, 443, when); got != want {
				t.Errorf("at %v: %s, want %s", when, got, want)
			}
		}
	})
}

// Egress IPs are between Services and Nodes, endpoints after all others.
func TestStaticOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		const a = "198.51.100.1"
		slice := `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: %s-1, namespace: ns, uid: es-%s, labels: {kubernetes.io/service-name: %s}}, addressType: IPv4, ports: [%s], endpoints: [{addresses: [` + a + `]}]}`
		all := []string{
			fmt.Sprintf(slice, "db", "db", "db", "{port: 5432}"),
			fmt.Sprintf(slice, "other", "other", "other", "{port: 80}"),
			node("n", "", a),
			`{apiVersion: k8s.ovn.org/v1, kind: EgressIP, metadata: {name: out, uid: e1}, spec: {namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [shop]}]}}, status: {items: [{node: n, egressIP: ` + a + `}]}}`,
			service("s", rfc(0), "clusterIP: 10.96.0.9, ports: [{port: 443}]", a),
			podSpec{name: "p", ips: a}.yaml(),
		}
		for i, want := range []string{"db endpoint", "db endpoint", "n node", "out egressip", "s service on n z-n", "p live"} {
			e.store.update(objectOf(t, all[i]))
			port := uint32(5432)
			if i >= 4 {
				port = 443
			}
			if got := e.showPort(a, 6, port, 2); i < 5 && got != want || i == 5 && e.showPort(a, 6, port, 1) != want {
				t.Errorf("%d: %s, want %s", i, got, want)
			}
		}
		if got := e.showPort("198.51.100.9", 6, 1, 2); got != "none" {
			t.Error(got)
		}
	})
}

// A look-up by port, one on a node's address and one of a shared address allocate nothing.
func TestStaticAllocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		e.store.update(objectOf(t, node("n1", ", annotations: {k8s.ovn.org/node-id: \"3\"}", "192.0.2.1")))
		e.store.update(objectOf(t, service("web", rfc(0), "clusterIP: 10.96.0.2, ports: [{port: 443, nodePort: 30443}]", "198.51.100.1")))
		s := e.NewStage(&sink{numbers: make([]uint32, 0, 1<<12), names: make([]string, 0, 1<<12)})
		s.next, s.maxWait, s.ready = nothing{}, 0, true
		for _, c := range [][2]string{{"192.0.2.1", "198.51.100.1"}, {"198.51.100.1", "192.0.2.1"}, {"169.254.0.2", "198.51.100.7"}} {
			r := record(1, c[0], c[1])
			r.Msg.Proto, r.Msg.SrcPort, r.Msg.DstPort = 6, 30443, 443
			r.Msg.SamplerAddress = addr("192.0.2.1").AsSlice()
			s.HandleFlow(r)
			if r.Ends[0].Object == nil {
				t.Errorf("%s is not named", c[0])
			}
			if n := testing.AllocsPerRun(100, func() { s.HandleFlow(r) }); n != 0 {
				t.Errorf("%s to %s: %v allocations", c[0], c[1], n)
			}
		}
	})
}

// nothing is the end of a chain.
type nothing struct{}

func (nothing) HandleFlow(*flow.Record) {}
func (nothing) Idle() bool              { return false }
