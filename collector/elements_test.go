package collector

import (
	"fmt"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestElementsOfFields decodes each element of the table of fields alone, fixed and
// of variable length.
func TestElementsOfFields(t *testing.T) {
	for i := range flow.Fields {
		f := &flow.Fields[i]
		show := func(r *flow.Record) string { return fmt.Sprintf("%d %q", r.Uint(f.ID), r.Bytes(f.ID)) }
		value, want := []byte{1}, `1 ""`
		switch f.Kind {
		case flow.KindMAC:
			value, want = []byte{1, 2, 3, 4, 5, 6}, fmt.Sprintf(`%d ""`, 0x010203040506)
		case flow.KindAddr:
			value, want = []byte("abcd"), `0 "abcd"`
		case flow.KindText:
			value, want = []byte("ab\x00\x00"), `0 "ab"`
		}
		for _, e := range f.Elements {
			const variable = 0xffff
			if e.PEN == 0 && e.ID >= 0x8000 { // there in NetFlow v9 only
				got, _ := decodeAll(t, show, v9Message(0, 1, set(0, templateRecord(256, ie{e.ID, uint16(len(value)), 0})), set(256, value)))
				if len(got) != 1 || got[0] != want {
					t.Errorf("%s from %s: %q, want %q", f.Name, e, got, want)
				}
				continue
			}
			got, _ := decodeAll(t, show,
				ipfixMessage(0, 1, set(2, templateRecord(256, ie{e.ID, uint16(len(value)), e.PEN})), set(256, value)),
				ipfixMessage(1, 1, set(2, templateRecord(257, ie{e.ID, variable, e.PEN})), set(257, []byte{byte(len(value))}, value)))
			if len(got) != 2 || got[0] != want || got[1] != want {
				t.Errorf("%s from %s: %q, want %q", f.Name, e, got, want)
			}
		}
	}
}
