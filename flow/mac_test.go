package flow_test

import (
	"net"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

func TestMAC(t *testing.T) {
	for mac, want := range map[uint64]string{
		0: "00:00:00:00:00:00", 1: "00:00:00:00:00:01", 0xfedcba987654: "fe:dc:ba:98:76:54", 0xffff0a580af40001: "0a:58:0a:f4:00:01",
	} {
		if got := string(flow.AppendMAC([]byte("mac "), mac)); got != "mac "+want {
			t.Errorf("%x is %s, want %s", mac, got, want)
		}
		if got, ok := flow.ParseMAC(want); !ok || got != mac<<16>>16 {
			t.Errorf("%s is %x, %v", want, got, ok)
		}
	}
	b := make([]byte, 0, flow.MACLen)
	if n := testing.AllocsPerRun(100, func() { _, _ = flow.ParseMAC(flow.AppendMAC(b, 7)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzParseMAC compares ParseMAC with the standard library.
func FuzzParseMAC(f *testing.F) {
	for _, s := range []string{
		"", "0a:58:0a:f4:00:01", "0A:58:0a:F4:00:0f", "0a-58-0a-f4-00-01", "0a58.0af4.0001", "0a:58:0a:f4:00-01", "0a:58:0a:f4:00:0g",
		"0a:58:0a:f4:00:01:02:03", "0a58.0af4.0001.0203", "0a:58:0a:f4:00:1", "0a580af40001", "0a58.0af4:0001", "0a5.80af4.0001", "::::::::::::::::::", "0a:58:0a:f4:00:01\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var want uint64
		hw, err := net.ParseMAC(s)
		for _, b := range hw {
			want = want<<8 | uint64(b)
		}
		got, ok := flow.ParseMAC(s)
		if ok != (err == nil && len(hw) == 6) || ok && got != want {
			t.Fatalf("%q is %x, %v; net.ParseMAC says %s, %v", s, got, ok, hw, err)
		}
		if mac, same := flow.ParseMAC([]byte(s)); mac != got || same != ok {
			t.Fatalf("%q is %x as bytes", s, mac)
		}
	})
}
