package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// traffic is one kind of traffic that a cluster has, told by its client's port.
type traffic struct {
	port uint16
	what string
	ns   string // of the client
	send func(port uint16) error
	// lost: nobody answers, as a policy or the Service has it.
	lost bool
}

const (
	request          = 20000 // bytes of a request over TCP
	response         = 60000 // and of its answer
	patienceOfClient = 4 * time.Second
)

// serve starts the servers that the kinds of traffic need, until the test ends.
func (c *ovnLab) serve() {
	c.t.Helper()
	for _, name := range []string{"server", "web", "denied"} {
		p := c.pod(name)
		c.serveTCP(name, netip.AddrPortFrom(p.v4(), 8080))
		c.serveTCP(name, netip.AddrPortFrom(p.v6(), 8080))
	}
	for _, n := range c.nodes {
		c.serveTCP(n.ns(), netip.AddrPortFrom(n.addr4(), 6443))
	}
	c.serveTCP(outside, netip.AddrPortFrom(outside4, 8000))
	c.serveTCP(outside, netip.AddrPortFrom(outside6, 8000))
	c.serveUDP("dns", netip.AddrPortFrom(c.pod("dns").v4(), 5353), 120)
	c.serveUDP("server", netip.AddrPortFrom(c.pod("server").v4(), 7000), 0)
	c.serveUDP("web", netip.AddrPortFrom(c.pod("web").v4(), 7000), 0)
	c.serveUDP("web", netip.AddrPortFrom(c.pod("web").v6(), 7000), 0)
}

// serveTCP answers a request, once it is at its end.
func (c *ovnLab) serveTCP(ns string, addr netip.AddrPort) {
	c.t.Helper()
	var l net.Listener
	if err := c.lab.In(ns, func() (err error) { l, err = net.Listen("tcp", addr.String()); return err }); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(soon))
				if _, err := io.Copy(io.Discard, conn); err == nil {
					_, _ = conn.Write(make([]byte, response))
				}
			}()
		}
	}()
}

// serveUDP answers each datagram with one of the given size, 0 for none.
func (c *ovnLab) serveUDP(ns string, addr netip.AddrPort, size int) {
	c.t.Helper()
	var conn *net.UDPConn
	err := c.lab.In(ns, func() (err error) { conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr)); return err })
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			_, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if size > 0 {
				_, _ = conn.WriteToUDPAddrPort(make([]byte, size), from)
			}
		}
	}()
}

// tcp is a connection from an address to another.
func (c *ovnLab) tcp(ns string, from netip.Addr, to netip.AddrPort, size int) func(uint16) error {
	return func(port uint16) error {
		return c.lab.In(ns, func() error {
			ctx, cancel := context.WithTimeout(c.t.Context(), patienceOfClient)
			defer cancel()
			d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, port))}
			conn, err := d.DialContext(ctx, "tcp", to.String())
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			if err := conn.SetDeadline(time.Now().Add(patienceOfClient)); err != nil {
				return err
			}
			if _, err := conn.Write(make([]byte, size)); err != nil {
				return err
			}
			tcp, _ := conn.(*net.TCPConn)
			if err := tcp.CloseWrite(); err != nil {
				return err
			}
			if n, err := io.Copy(io.Discard, conn); err != nil || n == 0 {
				return fmt.Errorf("%d bytes of an answer: %w", n, err)
			}
			return nil
		})
	}
}

// burst is what a kind of traffic sends by UDP.
type burst struct {
	count, size int
	gap         time.Duration
	answered    bool
	option      *sockopt
}

// sockopt is an option of a socket: a number, or text.
type sockopt struct {
	level, name, number int
	text                string
}

func (o *sockopt) set(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		if o.text != "" {
			failed = unix.SetsockoptString(int(fd), o.level, o.name, o.text)
		} else {
			failed = unix.SetsockoptInt(int(fd), o.level, o.name, o.number)
		}
	})
	return errors.Join(err, failed)
}

// udp are datagrams from an address to another.
func (c *ovnLab) udp(ns string, from netip.Addr, to netip.AddrPort, d burst) func(uint16) error {
	return func(port uint16) error {
		return c.lab.In(ns, func() error {
			conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, port)))
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			if d.option != nil {
				if err := d.option.set(conn); err != nil {
					return fmt.Errorf("socket option: %w", err)
				}
			}
			tick := time.NewTicker(max(d.gap, time.Millisecond))
			defer tick.Stop()
			b := make([]byte, 1<<16)
			for range d.count {
				// Of what came back from elsewhere the socket tells with the next one.
				if _, err := conn.WriteToUDPAddrPort(make([]byte, d.size), to); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
					return err
				}
				if d.answered {
					if err := conn.SetReadDeadline(time.Now().Add(patienceOfClient)); err != nil {
						return err
					}
					if _, err := conn.Read(b); err != nil {
						return err
					}
				}
				<-tick.C
			}
			return nil
		})
	}
}

// ping sends echo requests, which are answered.
func (c *ovnLab) ping(ns string, count int, to string) func(uint16) error {
	return func(uint16) error {
		return c.lab.Try(ns, "ping", "-q", "-c", fmt.Sprint(count), "-i", "0.1", "-W", "2", to)
	}
}

// traffic is all kinds of it, each with a port of its own: Open vSwitch's connection
// tracking in user space does not stand ports that are used again.
func (c *ovnLab) traffic() []traffic {
	client, server, egress, denied, web, batch := c.pod("client"), c.pod("server"), c.pod("egress"), c.pod("denied"), c.pod("web"), c.pod("batch")
	node1, node2 := c.nodes[0], c.nodes[1]
	at := netip.AddrPortFrom
	c4, c6 := client.v4(), client.v6()
	once := func(o sockopt) burst {
		return burst{count: 5, size: 64, gap: 50 * time.Millisecond, option: &o}
	}
	const extension = "\x00\x00\x01\x04\x00\x00\x00\x00" // of 8 bytes, which are padding
	return []traffic{
		{40001, "pod to pod, same node", "client", c.tcp("client", c4, at(server.v4(), 8080), request), false},
		{40002, "pod to pod, across nodes", "client", c.tcp("client", c4, at(web.v4(), 8080), request), false},
		{40003, "pod to pod, same node, IPv6", "client", c.tcp("client", c6, at(server.v6(), 8080), request), false},
		{40004, "pod to pod, across nodes, IPv6", "client", c.tcp("client", c6, at(web.v6(), 8080), request), false},
		{40005, "pod to ClusterIP, backend on the same node", "client", c.tcp("client", c4, serviceServer, request), false},
		{40006, "pod to ClusterIP, backend on the other node", "client", c.tcp("client", c4, serviceWeb, request), false},
		{40007, "pod to ClusterIP, other node, IPv6", "client", c.tcp("client", c6, serviceWeb6, request), false},
		{40008, "pod to ClusterIP, UDP", "client", c.udp("client", c4, serviceDNS, burst{count: 10, size: 40, gap: 10 * time.Millisecond, answered: true}), false},
		{40009, "pod to itself by its ClusterIP", "server", c.tcp("server", server.v4(), serviceServer, request), false},
		{40010, "pod to the API server, on its own node", "client", c.tcp("client", c4, serviceKubernetes, request), false},
		{40011, "pod to the API server, on the other node", "web", c.tcp("web", web.v4(), serviceKubernetes, request), false},
		{40012, "pod to outside", "client", c.tcp("client", c4, at(outside4, 8000), request), false},
		{40013, "pod to outside, IPv6", "client", c.tcp("client", c6, at(outside6, 8000), request), false},
		{40014, "pod to outside by an egress IP of the other node", "egress", c.tcp("egress", egress.v4(), at(outside4, 8000), request), false},
		{40015, "outside to a node port, backend on that node", outside, c.tcp(outside, outside4, at(node2.addr4(), nodePort), request), false},
		{40016, "outside to a node port, backend on the other node", outside, c.tcp(outside, outside4, at(node1.addr4(), nodePort), request), false},
		{40017, "outside to a load balancer", outside, c.tcp(outside, outside4, at(balancer, 80), request), false},
		{40018, "denied by a policy, same node", "client", c.tcp("client", c4, at(denied.v4(), 9000), 10), true},
		{40019, "denied by a policy, across nodes", "web", c.tcp("web", web.v4(), at(denied.v4(), 9000), 10), true},
		{40020, "allowed by a policy", "client", c.tcp("client", c4, at(denied.v4(), 8080), request), false},
		{40021, "denied by an egress firewall", "batch", c.tcp("batch", batch.v4(), at(outside4, 9999), 10), true},
		{40022, "host to pod, own node", node1.ns(), c.tcp(node1.ns(), node1.pod4(2), at(server.v4(), 8080), request), false},
		{40023, "host to pod, other node", node1.ns(), c.tcp(node1.ns(), node1.pod4(2), at(web.v4(), 8080), request), false},
		{40024, "host to ClusterIP, backend on the other node", node1.ns(), c.tcp(node1.ns(), node1.addr4(), serviceWeb, request), false},
		{40025, "pod to its own node", "client", c.tcp("client", c4, at(node1.addr4(), 6443), request), false},
		{40026, "pod to the other node", "client", c.tcp("client", c4, at(node2.addr4(), 6443), request), false},
		{40028, "UDP one way, across nodes", "batch", c.udp("batch", batch.v4(), at(server.v4(), 7000), burst{count: 200, size: 700, gap: 2 * time.Millisecond}), false},
		{40029, "UDP in fragments, across nodes", "client", c.udp("client", c4, at(web.v4(), 7000), burst{count: 10, size: 3000, gap: 10 * time.Millisecond}), false},
		{40030, "Service without endpoints", "client", c.tcp("client", c4, serviceEmpty, 10), true},
		{40031, "UDP to a closed port", "client", c.udp("client", c4, at(server.v4(), 82), burst{count: 3, size: 64, gap: 100 * time.Millisecond}), false},
		{40032, "a TTL that ends at the router", "client", c.udp("client", c4, at(web.v4(), 7000), once(sockopt{level: unix.IPPROTO_IP, name: unix.IP_TTL, number: 1})), false},
		{40033, "multicast", "client", c.udp("client", c4, netip.MustParseAddrPort("239.1.1.1:5000"), once(sockopt{level: unix.IPPROTO_IP, name: unix.IP_MULTICAST_TTL, number: 4})), false},
		{40034, "IPv6 with destination options", "client", c.udp("client", c6, at(web.v6(), 7000), once(sockopt{level: unix.IPPROTO_IPV6, name: unix.IPV6_DSTOPTS, text: extension})), false},
		{40035, "IPv6 with hop-by-hop options", "client", c.udp("client", c6, at(web.v6(), 7000), once(sockopt{level: unix.IPPROTO_IPV6, name: unix.IPV6_HOPOPTS, text: extension})), false},
		{40036, "DSCP", "client", c.udp("client", c4, at(web.v4(), 7000), once(sockopt{level: unix.IPPROTO_IP, name: unix.IP_TOS, number: 0xb8})), false},
		{0, "ping, same node", "client", c.ping("client", 5, server.v4().String()), false},
		{0, "ping, across nodes", "client", c.ping("client", 5, web.v4().String()), false},
		{0, "ping, across nodes, IPv6", "client", c.ping("client", 5, web.v6().String()), false},
		{0, "ping, outside", "client", c.ping("client", 5, outside4.String()), false},
		{0, "ping, the router", "client", c.ping("client", 3, node1.pod4(1).String()), false},
		{0, "ping, all neighbours", "client", c.ping("client", 2, "ff02::1%eth0"), false},
	}
}

// talk makes all kinds of traffic. What is lost takes a client's patience, and so all of
// that goes on beside the rest.
func (c *ovnLab) talk() {
	c.t.Helper()
	var group sync.WaitGroup
	var mu sync.Mutex
	var wrong []string
	try := func(k traffic) {
		err := k.send(k.port)
		if (err != nil) != k.lost {
			mu.Lock()
			wrong = append(wrong, fmt.Sprintf("%d, %s: %v, want an answer: %v", k.port, k.what, err, !k.lost))
			mu.Unlock()
		}
	}
	all := c.traffic()
	for _, k := range all {
		if k.lost {
			group.Go(func() { try(k) })
		}
	}
	for _, k := range all {
		if !k.lost {
			try(k)
		}
	}
	group.Wait()
	if len(wrong) > 0 {
		c.t.Fatalf("the cluster does not work:\n%s", strings.Join(wrong, "\n"))
	}
}
