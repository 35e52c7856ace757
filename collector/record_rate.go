package collector

import "slices"

// rateElements are the fields of a template that hold the sampling rate of each record.
type rateElements struct {
	rates []rateField // of each element the last field
}

type rateField struct {
	element uint16
	index   uint16 // of the field, or of the value that counts of several
}

func newRateElements(rd *recordDecoder) *rateElements {
	t := &rd.tmpl
	var last [len(rateIDs)]int // one more than the index
	found, n := false, 0
	for i, f := range t.fields {
		if f.PenProvided || f.Length == 0 {
			continue
		}
		at := slices.Index(rateIDs[:], f.Type)
		if at < 0 {
			continue
		}
		if last[at] == 0 {
			n++
		}
		last[at] = i + 1
		// The others mean nothing by themselves.
		found = found || f.Type != ieSelectorAlgorithm && f.Type != ieSamplingPacketSpace && f.Type != ieSamplingSize
	}
	if !found {
		return nil
	}
	e := &rateElements{rates: make([]rateField, 0, n)}
	for _, i := range last {
		if i > 0 {
			e.rates = append(e.rates, rateField{t.fields[i-1].Type, uint16(rd.canonical(i - 1))})
		}
	}
	return e
}

// rateIDs are the elements of a record that a sampling rate is computed from.
var rateIDs = [...]uint16{
	ieSamplingInterval, ieSamplerRandomInterval, ieSelectorAlgorithm, ieSamplingPacketInterval, ieSamplingPacketSpace,
	ieSamplingSize, ieSamplingPopulation, ieSamplingProbability,
}

// of returns the sampling rate that the record itself has, 0 if it has none. It is
// computed as that of options data.
func (e *rateElements) of(rd *recordDecoder, record []byte) uint64 {
	var o samplingOption
	for _, f := range e.rates {
		o.add(f.element, rd.value(record, int(f.index)))
	}
	return o.rate()
}
