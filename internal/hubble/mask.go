package hubble

import (
	"errors"
	"strings"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// mask says which fields of a flow a client wants. A nil mask is for all. A mask without fields
// is for a whole one.
type mask struct{ fields map[protoreflect.Name]*mask }

func newMask(paths *fieldmaskpb.FieldMask) (*mask, error) {
	if len(paths.GetPaths()) == 0 {
		return nil, nil
	}
	if !paths.IsValid(&flowpb.Flow{}) {
		return nil, errors.New("the field mask has a path that flows do not have; paths are such as source.namespace")
	}
	paths.Normalize() // no path is within another one
	m := &mask{fields: make(map[protoreflect.Name]*mask)}
	for _, path := range paths.GetPaths() {
		at := m
		for name := range strings.SplitSeq(path, ".") {
			if at.fields == nil {
				at.fields = make(map[protoreflect.Name]*mask)
			}
			next := at.fields[protoreflect.Name(name)]
			if next == nil {
				next = &mask{}
				at.fields[protoreflect.Name(name)] = next
			}
			at = next
		}
	}
	return m, nil
}

// apply removes what is not wanted from f, which must be the caller's alone but for its lists.
func (m *mask) apply(f *flowpb.Flow) {
	if m != nil {
		m.prune(f.ProtoReflect())
	}
}

func (m *mask) prune(msg protoreflect.Message) {
	msg.Range(func(d protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch next := m.fields[d.Name()]; {
		case next == nil:
			msg.Clear(d)
		case next.fields != nil: // a message, or the path would not be valid
			next.prune(value.Message())
		}
		return true
	})
}
