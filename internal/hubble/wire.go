package hubble

import (
	"bytes"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Flows are written as bytes of protobuf at once: with the generated types, each takes some
// twenty objects, and with many pods in memory the collections of that garbage cost more than
// all else. The numbers of fields are those of observer.proto and flow.proto in
// github.com/cilium/cilium/api/v1. Fields that are zero are left out, as proto3 does it.

// replacement stands for bytes that are not UTF-8, which protobuf asks for.
const replacement = "\uFFFD"

// appendUint appends a number, an enum or a bool, unless it is 0.
func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

// appendBool appends a bool, unless it is false.
func appendBool(b []byte, field protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return appendUint(b, field, 1)
}

// appendText appends a string in valid UTF-8, unless it is empty.
func appendText(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

// appendExported appends what an exporter calls something, unless it is empty.
func appendExported(b []byte, field protowire.Number, s []byte) []byte {
	if len(s) == 0 {
		return b
	}
	b, at := open(b, field)
	return closed(appendValid(b, s), at)
}

// appendValid appends text in valid UTF-8.
func appendValid(b, text []byte) []byte {
	if utf8.Valid(text) {
		return append(b, text...)
	}
	return append(b, bytes.ToValidUTF8(text, []byte(replacement))...)
}

// open begins a field that has a length, such as a message: what is appended until [closed] is
// in it. It returns where that begins.
func open(b []byte, field protowire.Number) (_ []byte, at int) {
	b = append(protowire.AppendTag(b, field, protowire.BytesType), 0)
	return b, len(b)
}

// closed ends a field that began at an offset.
func closed(b []byte, at int) []byte {
	n := len(b) - at
	if n < 1<<7 { // there is room for it
		b[at-1] = byte(n)
		return b
	}
	more := protowire.SizeVarint(uint64(n)) - 1
	b = append(b, make([]byte, more)...)
	copy(b[at+more:], b[at:at+n])
	protowire.AppendVarint(b[:at-1], uint64(n))
	return b
}
