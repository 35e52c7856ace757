package encode

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// DefaultKey is the list of fields that keys are made of by default.
const DefaultKey = "SrcAddr,DstAddr"

// Key makes keys of records for outputs that keep records with the same key
// together.
//
// A key is the text of some fields, joined by commas. If it has a field of the source
// and the same field of the destination, the lesser end comes first. Both directions
// of a conversation then have the same key. Any number of goroutines may use a Key.
type Key struct {
	// The ends have the same number of fields, in the same order.
	ends  [2][]column
	alone []column
}

// ParseKey parses a list of fields separated by commas, in either naming style.
// Generated fields are named with their prefix in mapping. Errors say which field
// cannot be part of a key, and why.
func ParseKey(list string, mapping []flow.MapEntry, labels ...flow.Label) (*Key, error) {
	cols, err := columns(dialectV1, mapping, labels...)
	if err != nil {
		return nil, err
	}
	k := new(Key)
	var named []column
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		i := slices.IndexFunc(cols, func(c column) bool { return name != "" && slices.Contains(c.names, name) })
		switch {
		case i < 0:
			return nil, fmt.Errorf("no field is named %q; an example is %s", name, DefaultKey)
		case cols[i].kind == decoded && !single(flow.Fields[cols[i].field].Kind):
			return nil, fmt.Errorf("field %s has several values, which no key can be made of", cols[i].key)
		case cols[i].kind != decoded && cols[i].kind != generated:
			return nil, fmt.Errorf("field %s is the same in every record; leave it out", cols[i].key)
		case slices.ContainsFunc(named, func(c column) bool { return c.key == cols[i].key }):
			return nil, fmt.Errorf("field %s is named twice", cols[i].key)
		}
		named = append(named, cols[i])
	}
	if len(named) == 0 {
		return nil, errors.New("no field is named")
	}
	for _, c := range named {
		source := slices.ContainsFunc(named, func(d column) bool { return opposite(c, d, mapping) })
		destination := slices.IndexFunc(named, func(d column) bool { return opposite(d, c, mapping) })
		switch {
		case source:
			d := named[slices.IndexFunc(named, func(d column) bool { return opposite(c, d, mapping) })]
			k.ends[0], k.ends[1] = append(k.ends[0], c), append(k.ends[1], d)
		case destination < 0:
			k.alone = append(k.alone, c)
		}
	}
	return k, nil
}

// Fields returns the fields of the flow that keys are made of.
func (k *Key) Fields() flow.FieldSet {
	return fieldsOf(slices.Concat(k.ends[0], k.ends[1], k.alone))
}

func single(k flow.ValueKind) bool {
	return k != flow.KindUints && k != flow.KindAddrs && k != flow.KindLayers
}

// opposite reports whether src is a field of the source and dst the same field of the
// destination.
func opposite(src, dst column, mapping []flow.MapEntry) bool {
	other := func(a, b flow.FieldID) bool {
		name := flow.Fields[a].Name
		return strings.Contains(name, "Src") && strings.Replace(name, "Src", "Dst", 1) == flow.Fields[b].Name
	}
	if src.kind != dst.kind {
		return false
	}
	if src.kind == decoded {
		return other(src.field, dst.field)
	}
	return src.attr == dst.attr && other(mapping[src.end].Field, mapping[dst.end].Field)
}

// AppendKey appends the key of a record. It appends nothing if the record has none
// of the fields, as a line that is no JSON object has none.
func (k *Key) AppendKey(dst []byte, r *flow.Record) []byte {
	if r.Line != nil && r.Line.Close < 0 {
		return dst
	}
	start := len(dst)
	dst, found := appendFields(dst, k.ends[0], r)
	if len(k.ends[0]) > 0 {
		middle := len(dst)
		var also bool
		dst, also = appendFields(dst, k.ends[1], r)
		found = found || also
		if first, second := dst[start:middle], dst[middle:]; bytes.Compare(first, second) > 0 {
			dst = append(dst, first...)
			dst = append(dst[:start], dst[middle:]...)
		}
	}
	dst, also := appendFields(dst, k.alone, r)
	if !found && !also {
		return dst[:start]
	}
	return dst[:len(dst)-1] // without the last comma
}

// appendFields appends fields with a comma after each. It reports whether any of them
// has a value.
func appendFields(dst []byte, cols []column, r *flow.Record) (_ []byte, found bool) {
	for i := range cols {
		c := &cols[i]
		n := len(dst)
		if c.kind == generated {
			dst = append(dst, r.Ends[c.end].Attr(c.attr)...)
		} else {
			dst = appendValue(dst, &flow.Fields[c.field], r)
		}
		found = found || len(dst) > n
		dst = append(dst, ',')
	}
	return dst, found
}

// appendValue appends a field's value as in schema v1, without quotes.
func appendValue(dst []byte, f *flow.Field, r *flow.Record) []byte {
	n := len(dst)
	switch f.Kind {
	case flow.KindUint:
		dst = reserve(dst, n, maxUint)
		return dst[:putUint(dst, n, r.Uint(f.ID))]
	case flow.KindAddr:
		dst = reserve(dst, n, maxAddr)
		return dst[:putAddr(dst, n, r.Bytes(f.ID))]
	case flow.KindMAC:
		dst = reserve(dst, n, flow.MACLen+1)
		return dst[:putMAC(dst, n, r.Uint(f.ID))]
	case flow.KindText:
		return append(dst, r.Bytes(f.ID)...)
	case flow.KindBool:
		return strconv.AppendBool(dst, r.Bool(f.ID))
	}
	return append(dst, r.Name(f.ID)...)
}
