package collector

// decodeOptions reads a record of options data: names, sampling rates and the boot
// time.
func (d *Decoder) decodeOptions(t *templateBinding, b []byte) {
	if t.hasNames {
		d.decodeNames(t, b)
	}
	var sampler, rate, interval, space, size, population uint64
	for i := range t.tmpl.fields {
		f := &t.tmpl.fields[i]
		if f.PenProvided || i < t.tmpl.scopes && t.tmpl.key.version == 9 {
			continue // v9 has numbers of their own for scopes (RFC 3954, 6.1)
		}
		v := number(t.value(b, i))
		switch f.Type {
		case ieSamplerID, ieSelectorID:
			sampler = v
		case ieSamplingInterval, ieSamplerRandomInterval:
			rate = v
		case ieSamplingPacketInterval:
			interval = v
		case ieSamplingPacketSpace:
			space = v
		case ieSamplingSize:
			size = v
		case ieSamplingPopulation:
			population = v
		case ieSystemInitTimeMilliseconds:
			if v != 0 {
				d.peer.exporter.setBootTime(t.key.domain, v)
			}
		}
	}
	switch {
	case interval > 0 && space > 0: // RFC 5477, 8.2: interval packets of interval + space
		rate = (interval + space) / interval
	case interval > 0 && t.tmpl.has(ieSamplingPacketSpace):
		rate = 1 // no packet is left out
	case interval > 0: // exporters that send the interval alone mean the rate
		rate = interval
	case rate == 0 && size > 0:
		rate = population / size
	}
	if rate != 0 {
		// Records that name no sampler get the rate that came last.
		k := samplerKey{domain: t.key.domain, version: t.key.version}
		d.peer.exporter.setSampling(k, rate)
		if k.sampler = sampler; sampler != 0 {
			d.peer.exporter.setSampling(k, rate)
		}
	}
}
