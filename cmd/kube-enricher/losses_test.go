package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInputLosses has each input lose something: the last line says what and how much,
// and the exit code is that of a failure where records are lost for good.
func TestInputLosses(t *testing.T) {
	capture := filepath.Join(captureDir, "softflowd-v5.pcap")
	messages, _, _ := runProgram(t, "-kube.off", "-format", "protobuf", capture)
	var damaged []byte
	bad, n := 0, 0
	for rest := []byte(messages); len(rest) > 0; n++ {
		length, prefix := binary.Uvarint(rest)
		message := bytes.Clone(rest[:prefix+int(length)])
		rest = rest[len(message):]
		if n > 0 && n%7 == 0 { // the last varint has no end
			message[len(message)-1] |= 0x80
			bad++
		}
		damaged = append(damaged, message...)
	}
	if bad < 10 {
		t.Fatalf("%d messages of %d are damaged", bad, n)
	}
	original, err := os.ReadFile(capture)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.pcap")
	// A packet of which the snap length left 30 bytes, behind the others.
	header := append(bytes.Clone(original[24:32]), 30, 0, 0, 0, 100, 0, 0, 0)
	if err := os.WriteFile(cut, append(append(bytes.Clone(original), header...), original[40:70]...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, stdin string
		args        []string
		code        int
		last        []string
	}{
		{"protobuf", string(damaged), []string{"-"}, exitFailed, []string{" lines_dropped_malformed=106 "}},
		{"cut protobuf", messages[:len(messages)-1], []string{"-"}, exitFailed, []string{" lines_dropped_cut=1 "}},
		{"JSON", "{}\n" + strings.Repeat("x", 17<<20) + "\nno JSON\n{}\n", []string{"-"}, exitFailed, []string{" lines_dropped_too_long=1 ", " lines_passed_through=1 "}},
		{"no JSON", "no JSON\n", []string{"-"}, exitDone, []string{" lines_passed_through=1 "}},
		{"capture", "", []string{cut}, exitDone, []string{" passed_over_malformed_packet=1 "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := startWith(t, strings.NewReader(tc.stdin), nil, append([]string{"-kube.off"}, tc.args...)...)
			code := p.wait()
			var last string
			for line := range strings.Lines(p.stderr()) {
				if strings.Contains(line, "msg=done ") {
					last = line
				}
			}
			for _, want := range tc.last {
				if !strings.Contains(last, want) {
					t.Errorf("%q is not in %s", want, last)
				}
			}
			if code != tc.code {
				t.Errorf("exit code %d: %s", code, p.stderr())
			}
		})
	}
}
