package pipe

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const (
	// maxNames bounds the ends that a stage remembers, and maxNamesSize what each may take, in
	// bytes.
	maxNames     = 1 << 14
	maxNamesSize = 4 << 10
)

// NamesConfig configures a [Names].
type NamesConfig struct {
	Mapping []flow.MapEntry
	Labels  []flow.Label // those that objects have
	// Alone reports whether no stage before has filled in the Ends.
	Alone bool
}

// Names gives records the generated fields that their messages came with, from another
// kube-enricher. They take the place of what the cluster says, field by field, as a line of JSON
// keeps the fields that it has. Without this, only what is written as protobuf would have them. It
// is a [flow.Handler], used by one goroutine at a time.
type Names struct {
	cfg  NamesConfig
	next flow.Handler
	came [flow.MaxEnds][]byte // the fields of each end, as they were encoded
	// known has the objects that were made of fields, since most ends come again and again.
	known map[namesKey]flow.End
}

// namesKey is an end as it was found before, and the fields that it came with.
type namesKey struct {
	before flow.End
	came   string
}

// NewNames returns a stage that hands its records on to next.
func NewNames(cfg NamesConfig, next flow.Handler) *Names {
	return &Names{cfg: cfg, next: next, known: make(map[namesKey]flow.End)}
}

// Idle implements [flow.Handler].
func (s *Names) Idle() (pending bool) { return s.next.Idle() }

// HandleFlow implements [flow.Handler]. It does not keep r.
func (s *Names) HandleFlow(r *flow.Record) {
	if s.cfg.Alone {
		clear(r.Ends[:len(s.cfg.Mapping)])
	}
	if unknown := r.Msg.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		s.split(unknown)
		for i := range s.cfg.Mapping {
			if len(s.came[i]) > 0 {
				r.Ends[i] = s.end(r.Ends[i], s.came[i])
			}
		}
	}
	s.next.HandleFlow(r)
}

// split sorts the generated fields of a message by ends. Their numbers become those in a
// KubeObject.
func (s *Names) split(message []byte) {
	for i := range s.came {
		s.came[i] = s.came[i][:0]
	}
	eachField(message, func(number protowire.Number, wire protowire.Type, value []byte) {
		switch {
		case wire != protowire.BytesType:
		case number == flow.NumberOther:
			object, _ := protowire.ConsumeBytes(value)
			s.add(prefixOf(object), object)
		case flow.NumberGenerated <= number && number < flow.NumberDst:
			s.addField("Src", number-flow.NumberGenerated, value)
		case flow.NumberDst <= number && number < flow.NumberOther:
			s.addField("Dst", number-flow.NumberDst, value)
		}
	})
}

// add adds encoded fields to the end with a prefix, if there is one.
func (s *Names) add(prefix string, fields []byte) {
	for i := range s.cfg.Mapping {
		if s.cfg.Mapping[i].Prefix == prefix {
			s.came[i] = append(s.came[i], fields...)
		}
	}
}

// addField adds a field, whose value begins with its length.
func (s *Names) addField(prefix string, number protowire.Number, value []byte) {
	for i := range s.cfg.Mapping {
		if s.cfg.Mapping[i].Prefix == prefix {
			s.came[i] = append(protowire.AppendTag(s.came[i], number+flow.NumberObject, protowire.BytesType), value...)
		}
	}
}

// prefixOf returns the prefix of a KubeObject.
func prefixOf(object []byte) (prefix string) {
	eachField(object, func(number protowire.Number, wire protowire.Type, value []byte) {
		if number == flow.NumberPrefix && wire == protowire.BytesType {
			b, _ := protowire.ConsumeBytes(value)
			prefix = string(b)
		}
	})
	return prefix
}

// end returns an end with the fields that it came with.
func (s *Names) end(before flow.End, came []byte) flow.End {
	if e, ok := s.known[namesKey{before, string(came)}]; ok {
		return e
	}
	e := s.merge(before, came)
	if len(came) <= maxNamesSize {
		if len(s.known) >= maxNames {
			clear(s.known)
		}
		s.known[namesKey{before, string(came)}] = e
	}
	return e
}

// merge makes an end of what was known of it and of the fields that it came with.
func (s *Names) merge(before flow.End, came []byte) flow.End {
	var o flow.Object
	if before.Object != nil {
		o = before.Object.Copy()
	}
	var place flow.Place
	status, pod, named := before.Status, "", false
	labels := make([]string, len(s.cfg.Labels))
	for i := range labels {
		labels[i] = before.Attr(flow.AttrLabel + flow.Attr(i))
	}
	texts := map[flow.Attr]*string{
		flow.AttrPod: &pod, flow.AttrNamespace: &o.Namespace, flow.AttrHostIP: &o.HostIP, flow.AttrWorkload: &o.Workload,
		flow.AttrWorkloadKind: &o.WorkloadKind, flow.AttrWarn: &o.Warn, flow.AttrNode: &o.Node, flow.AttrZone: &o.Zone,
		flow.AttrPodUID: &o.UID, flow.AttrNetwork: &o.Network,
		flow.AttrSubnetLabel: &place.SubnetLabel, flow.AttrCountry: &place.Country, flow.AttrASName: &place.ASName,
	}
	eachField(came, func(number protowire.Number, wire protowire.Type, value []byte) {
		if wire != protowire.BytesType || number < flow.NumberObject {
			return
		}
		b, _ := protowire.ConsumeBytes(value)
		if number -= flow.NumberObject; number == flow.NumberLabels {
			s.setLabel(labels, b)
			named = true
			return
		}
		row := slices.IndexFunc(flow.Attrs, func(a flow.AttrInfo) bool { return a.Number == int32(number) })
		switch {
		case row < 0 || len(b) == 0:
		case flow.Attrs[row].Attr == flow.AttrStatus:
			status = flow.StatusOf(string(b))
		default:
			*texts[flow.Attrs[row].Attr] = string(b)
			named = true
		}
	})
	if !named {
		before.Status = status
		return before
	}
	o.Labels = flow.JoinLabels(labels)
	if place != (flow.Place{}) {
		o.Place = &place
	}
	if pod != "" {
		o.Kind, o.Name = "Pod", pod
	} else if kind := o.WorkloadKind; kind == "Service" || kind == "Node" || kind == "EgressIP" {
		o.Kind, o.Name = kind, o.Workload
	}
	return flow.End{Object: flow.NewObject(o), Status: status}
}

// setLabel sets the label that an entry of a map has.
func (s *Names) setLabel(labels []string, entry []byte) {
	var key, value []byte
	eachField(entry, func(number protowire.Number, wire protowire.Type, v []byte) {
		b, _ := protowire.ConsumeBytes(v)
		switch {
		case wire != protowire.BytesType:
		case number == 1: // of a map's entry (protobuf encoding, "Maps")
			key = b
		case number == 2:
			value = b
		}
	})
	for i := range labels {
		if s.cfg.Labels[i].Field == string(key) {
			labels[i] = string(value)
		}
	}
}

// eachField calls f for each field of a message, with the value as it is encoded, until the first
// one that is wrong.
func eachField(message []byte, f func(number protowire.Number, wire protowire.Type, value []byte)) {
	for len(message) > 0 {
		number, wire, n := protowire.ConsumeTag(message)
		if n < 0 {
			return
		}
		m := protowire.ConsumeFieldValue(number, wire, message[n:])
		if m < 0 {
			return
		}
		f(number, wire, message[n:n+m])
		message = message[n+m:]
	}
}
