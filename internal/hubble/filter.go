package hubble

import (
	"errors"
	"fmt"
	"slices"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxFilterValues bounds the values of all filters of a request.
const maxFilterValues = 10_000

// predicate reports whether a record is as a filter asks.
type predicate func(v *view) bool

// selection is the filters of a request. A record is wanted if one of the white ones is true, or
// there are none, and none of the black ones is.
type selection struct{ white, black []predicate }

// all reports whether every record is wanted.
func (s *selection) all() bool { return len(s.white) == 0 && len(s.black) == 0 }

func (s *selection) wants(v *view) bool {
	if len(s.white) > 0 && !anyTrue(s.white, v) {
		return false
	}
	return !anyTrue(s.black, v)
}

func anyTrue(list []predicate, v *view) bool {
	for _, p := range list {
		if p(v) {
			return true
		}
	}
	return false
}

func allTrue(list []predicate, v *view) bool {
	for _, p := range list {
		if !p(v) {
			return false
		}
	}
	return true
}

// compile makes the filters of a request. Its error says which value is wrong.
func compile(white, black []*flowpb.FlowFilter) (*selection, error) {
	n := 0
	for _, f := range slices.Concat(white, black) {
		n += 1 + valuesIn(f)
	}
	if n > maxFilterValues {
		return nil, fmt.Errorf("filters have %d values; at most %d are possible", n, maxFilterValues)
	}
	s := &selection{}
	var err error
	if s.white, err = compileList(white, false); err != nil {
		return nil, err
	}
	s.black, err = compileList(black, true)
	return s, err
}

// unknowable is an error: a filter asks for what no record tells. Who waits for such flows gets to
// know that there will be none. As a black filter, it leaves out none.
type unknowable string

// Error implements error.
func (u unknowable) Error() string {
	return "no record tells " + string(u) + ": there are no flows for this filter"
}

func compileList(filters []*flowpb.FlowFilter, black bool) ([]predicate, error) {
	var list []predicate
	for _, f := range filters {
		parts, err := compileOne(f)
		if u := unknowable(""); black && errors.As(err, &u) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, func(v *view) bool { return allTrue(parts, v) })
	}
	return list, nil
}

// part makes the predicate of one kind of values of a filter, nil if it has none.
type part func(f *flowpb.FlowFilter) (predicate, error)

// parts lists what a filter may ask for. What costs least goes first. Nothing may change it.
var parts = []part{
	noLayer7, verdictIs, dropReasonIs, replyIs, encryptedIs, directionIs, ipVersionIs, protocolIs, tcpFlagsAre, eventIs,
	traceIs, interfaceIs,
	ofPort((*flowpb.FlowFilter).GetSourcePort, sourcePort), ofPort((*flowpb.FlowFilter).GetDestinationPort, destinationPort),
	ofIP((*flowpb.FlowFilter).GetSourceIp, sourceAddr), ofIP((*flowpb.FlowFilter).GetDestinationIp, destinationAddr),
	ofIP((*flowpb.FlowFilter).GetSourceIpXlated, (*view).translated),
	ofEndpointName((*flowpb.FlowFilter).GetSourcePod, (*view).source, podName),
	ofEndpointName((*flowpb.FlowFilter).GetDestinationPod, (*view).destination, podName),
	ofEndpointName((*flowpb.FlowFilter).GetSourceService, (*view).source, serviceName),
	ofEndpointName((*flowpb.FlowFilter).GetDestinationService, (*view).destination, serviceName),
	ofWorkload((*flowpb.FlowFilter).GetSourceWorkload, (*view).source),
	ofWorkload((*flowpb.FlowFilter).GetDestinationWorkload, (*view).destination),
	ofIdentity((*flowpb.FlowFilter).GetSourceIdentity, (*view).source),
	ofIdentity((*flowpb.FlowFilter).GetDestinationIdentity, (*view).destination),
	ofCluster((*flowpb.FlowFilter).GetSourceClusterName, (*view).source),
	ofCluster((*flowpb.FlowFilter).GetDestinationClusterName, (*view).destination),
	ofLabel((*flowpb.FlowFilter).GetSourceLabel, (*view).source), ofLabel((*flowpb.FlowFilter).GetDestinationLabel, (*view).destination),
	nodeLabelsAre,
	ofNames((*flowpb.FlowFilter).GetSourceFqdn, (*view).source), ofNames((*flowpb.FlowFilter).GetDestinationFqdn, (*view).destination),
	ofNode, uuidIs, noExpression,
}

// compileOne makes the predicates of a filter, all of which must be true.
func compileOne(f *flowpb.FlowFilter) ([]predicate, error) {
	var list []predicate
	for _, part := range parts {
		p, err := part(f)
		if err != nil {
			return nil, err
		}
		if p != nil {
			list = append(list, p)
		}
	}
	return list, nil
}

// valuesIn returns how many values a filter has.
func valuesIn(f *flowpb.FlowFilter) (n int) {
	f.ProtoReflect().Range(func(d protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if d.IsList() {
			n += value.List().Len()
		}
		return true
	})
	return n
}

// noLayer7 is for what asks for requests of HTTP or DNS.
func noLayer7(f *flowpb.FlowFilter) (predicate, error) {
	if len(f.GetHttpStatusCode())+len(f.GetHttpMethod())+len(f.GetHttpPath())+len(f.GetHttpUrl())+len(f.GetHttpHeader()) > 0 {
		return nil, unknowable("requests of HTTP")
	}
	if len(f.GetDnsQuery()) > 0 {
		return nil, unknowable("queries of DNS")
	}
	return nil, nil
}

// noExpression refuses expressions, which Cilium calls experimental and leaves to servers.
func noExpression(f *flowpb.FlowFilter) (predicate, error) {
	if len(f.GetExperimental().GetCelExpression()) > 0 {
		return nil, fmt.Errorf("CEL expressions are not supported; use the other filters")
	}
	return nil, nil
}
