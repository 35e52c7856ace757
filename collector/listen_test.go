package collector

import (
	"strings"
	"testing"
)

func TestParseListen(t *testing.T) {
	n := DefaultSockets()
	for _, tc := range []struct {
		in   string
		want []Listener
		err  string // part of the error
	}{
		{in: "netflow://:2055,sflow://:6343", want: []Listener{
			{NetFlow, "", 2055, n, DefaultReceiveBuffer}, {SFlow, "", 6343, n, DefaultReceiveBuffer}}},
		{in: " flow://10.0.0.1:9995?count=3&rcvbuf=65536 ", want: []Listener{{AnyFlow, "10.0.0.1", 9995, 3, 65536}}},
		{in: "netflow://[::1]:2055?count=1", want: []Listener{{NetFlow, "::1", 2055, 1, DefaultReceiveBuffer}}},
		{in: "netflow://localhost:0?count=1", want: []Listener{{NetFlow, "localhost", 0, 1, DefaultReceiveBuffer}}},
		{in: "", err: "empty"},
		{in: ",", err: "empty"},
		{in: ":2055", err: "SCHEME://"},
		{in: "2055", err: "SCHEME://"},
		{in: "netflow://", err: "SCHEME://"},
		{in: "netflow://:2055/x", err: "SCHEME://"},
		{in: "netflow://u@:2055", err: "SCHEME://"},
		{in: "udp://:2055", err: "none of netflow, sflow, flow"},
		{in: "netflow://:x", err: "SCHEME://"},
		{in: "netflow://:65536", err: "65536"},
		{in: "netflow://10.0.0.1", err: "port"},
		{in: "netflow://:2055?count=0", err: "count=0"},
		{in: "netflow://:2055?count=65", err: "count=65"},
		{in: "netflow://:2055?count=two", err: "count=two"},
		{in: "netflow://:2055?rcvbuf=1", err: "rcvbuf=1"},
		{in: "netflow://:2055?workers=2", err: "none of count, rcvbuf"},
		{in: "netflow://:2055,flow://:2055", err: "listed twice"},
	} {
		got, err := ParseListen(tc.in)
		switch {
		case tc.err != "":
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q: error %v, want one with %q", tc.in, err, tc.err)
			}
		case err != nil:
			t.Errorf("%q: %v", tc.in, err)
		case len(got) != len(tc.want):
			t.Errorf("%q: %+v", tc.in, got)
		default:
			for i := range got {
				if got[i] != tc.want[i] {
					t.Errorf("%q: %+v, want %+v", tc.in, got[i], tc.want[i])
				}
			}
		}
	}
}
