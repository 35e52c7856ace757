package collector

// rateElements are the fields of a template that tell the sampling rate of each
// record, -1 where there is none.
type rateElements struct {
	rates                             []uint16 // IE 34 and 50
	interval, space, size, population int16
}

func newRateElements(t *template) *rateElements {
	e := &rateElements{interval: -1, space: -1, size: -1, population: -1}
	found := false
	for i, f := range t.fields {
		if f.PenProvided || f.Length == 0 {
			continue
		}
		switch f.Type {
		case ieSamplingInterval, ieSamplerRandomInterval:
			if len(e.rates) < 2 {
				e.rates = append(e.rates, uint16(i))
			}
		case ieSamplingPacketInterval:
			e.interval = int16(i)
		case ieSamplingPacketSpace:
			e.space = int16(i)
		case ieSamplingSize:
			e.size = int16(i)
		case ieSamplingPopulation:
			e.population = int16(i)
		default:
			continue
		}
		found = true
	}
	if !found {
		return nil
	}
	return e
}

// of returns the sampling rate that the record itself tells, 0 if it tells none.
func (e *rateElements) of(rd *recordDecoder, record []byte) uint64 {
	at := func(index int16) uint64 {
		if index < 0 {
			return 0
		}
		return number(rd.value(record, int(index)))
	}
	if size, population := at(e.size), at(e.population); size > 0 && population >= size {
		return population / size // RFC 5477, 8.2.5: random n out of N
	}
	if interval, space := at(e.interval), at(e.space); interval > 0 {
		switch {
		case space > 0 && interval+space > interval: // RFC 5477, 8.2.2: interval packets of interval + space
			return (interval + space) / interval
		case e.space >= 0:
			return 1 // no packet is left out
		default:
			return interval // exporters that send the interval alone mean the rate
		}
	}
	for _, index := range e.rates {
		if rate := number(rd.value(record, int(index))); rate != 0 {
			return rate
		}
	}
	return 0
}
