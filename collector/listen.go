package collector

import (
	"fmt"
	"net"
	"net/url"
	"runtime"
	"strconv"
	"strings"
)

// Protocols is a set of the protocols that may arrive at a socket.
type Protocols uint8

// The protocols, by the scheme of -listen that admits them.
const (
	NetFlow Protocols = 1 << iota // v1, v5, v7, v9 and IPFIX
	SFlow                         // v5
	AnyFlow = NetFlow | SFlow
)

// DefaultReceiveBuffer is the size asked for a socket's receive buffer, in bytes.
const DefaultReceiveBuffer = 8 << 20

const maxSockets = 64

// Listener is one address that exporters send to.
type Listener struct {
	Protocols Protocols
	Host      string // address or name; empty for all addresses of both families
	Port      uint16
	Sockets   int // how many sockets share the address by SO_REUSEPORT, each with a worker of its own
	// ReceiveBuffer is the size asked for each socket's buffer, in bytes.
	ReceiveBuffer int
}

// String returns the listener's host and port, as net.Listen takes them.
func (l Listener) String() string {
	return net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))
}

// URL returns the listener's scheme, host and port, as in -listen.
func (l Listener) URL() string {
	scheme := "flow"
	switch l.Protocols {
	case NetFlow:
		scheme = "netflow"
	case SFlow:
		scheme = "sflow"
	}
	return scheme + "://" + l.String()
}

// DefaultSockets is how many sockets an address gets unless count says
// otherwise: one per core, at most 4.
func DefaultSockets() int { return min(runtime.GOMAXPROCS(0), 4) }

// ParseListen reads the value of -listen: URLs separated by commas, such as
// "netflow://:2055?count=2,sflow://10.0.0.1:6343?rcvbuf=4194304".
func ParseListen(s string) ([]Listener, error) {
	var ls []Listener
	seen := make(map[string]bool)
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		l, err := parseListener(part)
		if err != nil {
			return nil, err
		}
		if seen[l.String()] {
			return nil, fmt.Errorf("%s is listed twice; one flow:// address takes all protocols", l)
		}
		seen[l.String()] = true
		ls = append(ls, l)
	}
	if len(ls) == 0 {
		return nil, fmt.Errorf("empty; an example is netflow://:2055,sflow://:6343")
	}
	return ls, nil
}

func parseListener(s string) (Listener, error) {
	l := Listener{Sockets: DefaultSockets(), ReceiveBuffer: DefaultReceiveBuffer}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Path != "" || u.User != nil || u.Fragment != "" {
		return l, fmt.Errorf("%q is not SCHEME://[HOST]:PORT[?count=N&rcvbuf=BYTES]", s)
	}
	switch u.Scheme {
	case "netflow":
		l.Protocols = NetFlow
	case "sflow":
		l.Protocols = SFlow
	case "flow":
		l.Protocols = AnyFlow
	default:
		return l, fmt.Errorf("scheme %q of %q is none of netflow, sflow, flow", u.Scheme, s)
	}
	l.Host = u.Hostname()
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return l, fmt.Errorf("port %q of %q is not a number from 0 to 65535", u.Port(), s)
	}
	l.Port = uint16(port)
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return l, fmt.Errorf("options of %q cannot be read: %w", s, err)
	}
	for k, vs := range q {
		n, err := strconv.Atoi(vs[len(vs)-1])
		switch k {
		case "count":
			if err != nil || n < 1 || n > maxSockets {
				return l, fmt.Errorf("count=%s of %q is not a number from 1 to %d", vs[len(vs)-1], s, maxSockets)
			}
			l.Sockets = n
		case "rcvbuf":
			if err != nil || n < 4096 || n > 1<<30 {
				return l, fmt.Errorf("rcvbuf=%s of %q is not a number of bytes from 4096 to %d", vs[len(vs)-1], s, 1<<30)
			}
			l.ReceiveBuffer = n
		default:
			return l, fmt.Errorf("option %q of %q is none of count, rcvbuf", k, s)
		}
	}
	return l, nil
}
