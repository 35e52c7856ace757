package transport

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// messageEncoder writes goflow2's messages, as the format protobuf does.
type messageEncoder struct{}

func (messageEncoder) AppendRecord(dst []byte, r *flow.Record) []byte {
	b, err := proto.Marshal(&r.Msg.FlowMessage)
	if err != nil {
		panic(err)
	}
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// wholeMessages makes messages, some of them long, one longer than what is looked at.
func wholeMessages() (all []byte, ends []int) {
	ends = []int{0}
	for i := range 40 {
		m := flowpb.FlowMessage{SequenceNum: uint32(1 + i), Bytes: 1 << (i % 40), SrcAddr: make([]byte, 4), SrcPort: 443}
		switch i {
		case 11:
			m.BgpCommunities = slices.Repeat([]uint32{1 << 31}, 100)
		case 12:
			m.DstAddr = make([]byte, tornBuffer+10)
		}
		b, _ := proto.Marshal(&m) // cannot fail
		all = append(binary.AppendUvarint(all, uint64(len(b))), b...)
		ends = append(ends, len(all))
	}
	return all, ends
}

// appendTo opens a file as the output does and appends a record. It returns what is in the
// file then, and what was logged.
func appendTo(t *testing.T, found []byte) (string, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.pb")
	if err := os.WriteFile(path, found, 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, FileConfig{Path: path, Binary: true}, messageEncoder{})
	b.start()
	b.hand(b.NewWriter(), 7, 0)
	b.noError(b.stop())
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var logged []string
	for _, e := range b.log.AllEntries() {
		logged = append(logged, e.Message)
	}
	return string(got), strings.Join(logged, "\n")
}

// TestTornEnd cuts a file of messages at each byte of some of them: the record that is
// appended follows the last whole one.
func TestTornEnd(t *testing.T) {
	all, ends := wholeMessages()
	added := messageEncoder{}.AppendRecord(nil, func() *flow.Record {
		r := new(flow.Record)
		r.Msg.SequenceNum = 7
		return r
	}())
	var cuts []int
	for _, i := range []int{0, 1, 10, 39} {
		for at := ends[i]; at <= ends[i+1]; at++ {
			cuts = append(cuts, at)
		}
	}
	for _, at := range append(cuts, ends[11]+1, ends[11]+2, ends[12]+1, ends[12]+4, ends[12]+5, ends[12]+tornBuffer, ends[13]-1, ends[13]) {
		i, whole := slices.BinarySearch(ends, at)
		if !whole {
			i--
		}
		got, logged := appendTo(t, all[:at])
		if want := string(all[:ends[i]]) + string(added); got != want {
			t.Fatalf("cut at %d: %d bytes, want %d", at, len(got), len(want))
		}
		if strings.Contains(logged, "was cut off") == whole {
			t.Errorf("cut at %d: logged %q", at, logged)
		}
		n := 0
		for r := bytes.NewReader([]byte(got)); r.Len() > 0; n++ {
			var m flowpb.FlowMessage
			if err := (protodelim.UnmarshalOptions{MaxSize: -1}).UnmarshalFrom(r, &m); err != nil {
				t.Fatalf("cut at %d: message %d: %v", at, n, err)
			}
		}
		if n != i+1 {
			t.Errorf("cut at %d: %d messages, want %d", at, n, i+1)
		}
	}
	// Zeros that a power failure left.
	if got, _ := appendTo(t, append(bytes.Clone(all), make([]byte, 5000)...)); got != string(all)+string(added) {
		t.Errorf("zeros at the end: %d bytes", len(got))
	}
}

// TestTornEndOfOthers has files that are not of messages, or damaged before the end. They
// stay as they are.
func TestTornEndOfOthers(t *testing.T) {
	all, ends := wholeMessages()
	torn := slices.Concat(all[:ends[5]], all[ends[5]:ends[6]-3], all[ends[6]:ends[11]])
	for name, found := range map[string][]byte{
		"JSON":                      bytes.Repeat([]byte("{\"SrcAddr\":\"192.0.2.1\"}\n"), 100),
		"text":                      bytes.Repeat([]byte("no messages\n"), 100),
		"random varint":             append(bytes.Clone(all), bytes.Repeat([]byte{0xff}, 20)...),
		"too long":                  append(bytes.Clone(all), binary.AppendUvarint(nil, maxMessage+1)...),
		"a zero between":            slices.Concat(all[:ends[3]], []byte{0}, all[ends[3]:]),
		"torn, and then continued":  torn,
		"the same, with a cut end":  torn[:len(torn)-2],
		"torn many messages before": slices.Concat(torn, all, all[:ends[20]+3]),
	} {
		got, logged := appendTo(t, found)
		if !strings.HasPrefix(got, string(found)) || len(got) <= len(found) {
			t.Errorf("%s: %d bytes of %d are left", name, len(got), len(found))
		}
		if !strings.Contains(logged, "not of whole messages") {
			t.Errorf("%s: logged %q", name, logged)
		}
	}
}

// TestTornEndReopened opens the same file anew, as SIGHUP does: it is not looked through
// again, and nothing is cut.
func TestTornEndReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.pb")
	b := newBench(t, FileConfig{Path: path, Binary: true}, messageEncoder{})
	b.noError(b.Open())
	if err := os.WriteFile(path, []byte{9, 8}, 0o600); err != nil {
		t.Fatal(err)
	}
	b.openAgain()
	if got, err := os.ReadFile(path); err != nil || len(got) != 2 {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte{9, 8}, 0o600); err != nil {
		t.Fatal(err)
	}
	b.openAgain()
	if got, err := os.ReadFile(path); err != nil || len(got) != 0 {
		t.Errorf("another file: %q, %v", got, err)
	}
	b.noError(b.close())
}
