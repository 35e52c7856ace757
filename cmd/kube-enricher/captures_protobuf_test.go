package main

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// protobufRecords reads messages as objects: by the name of each field its value.
func protobufRecords(t *testing.T, out string) (list []map[string]any) {
	t.Helper()
	for _, m := range messages(t, out) {
		r := make(map[string]any)
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			r[string(f.Name())] = protobufValue(f, m.ProtoReflect().Get(f))
		}
		list = append(list, r)
	}
	return list
}

// protobufValue returns a value as encoding/json would.
func protobufValue(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	if f.IsMap() {
		return nil
	}
	if !f.IsList() {
		return protobufScalar(f, v)
	}
	list := []any{}
	for i := range v.List().Len() {
		list = append(list, protobufScalar(f, v.List().Get(i)))
	}
	return list
}

func protobufScalar(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch f.Kind() {
	case protoreflect.BytesKind:
		addr, ok := netip.AddrFromSlice(v.Bytes())
		if !ok {
			return string(v.Bytes())
		}
		return addr.Unmap().String()
	case protoreflect.EnumKind:
		return string(f.Enum().Values().ByNumber(v.Enum()).Name())
	case protoreflect.BoolKind:
		return v.Bool()
	case protoreflect.MessageKind:
		return nil
	case protoreflect.StringKind:
		return v.String()
	}
	return json.Number(v.String())
}

func valueProtobuf(r map[string]any, column, want string) (string, bool) {
	if unknownTime(column, want) {
		return "", false
	}
	if ns := inNs[column]; ns != "" {
		field, _ := flow.FieldByName(ns)
		return divided(text(r[field.Snake]), 1e9), true
	}
	field, ok := flow.FieldByName(column)
	switch {
	case !ok:
		return text(r[snakeCase(column)]), true
	case field.Number == 0 || field.Kind == flow.KindString && column != "Type":
		return "", false // a name; the number is in another field
	case field.Kind == flow.KindMAC:
		n, err := strconv.ParseUint(text(r[field.Snake]), 10, 64)
		if err != nil || n == 0 {
			return "", true
		}
		return string(flow.AppendMAC(nil, n)), true
	}
	return text(r[field.Snake]), true
}
