package exporter

// SFlow sends one sampled packet for each flow, whose length is the flow's
// Bytes. Packets is not sent: a sample is one packet.
func (e *Exporter) SFlow(flows ...Flow) error {
	var b []byte
	words := func(values ...uint32) {
		for _, v := range values {
			b = be.AppendUint32(b, v)
		}
	}
	const version, agentIsIPv4, localhost, flowSample, rawHeader, ethernet = 5, 1, 127<<24 | 1, 1, 1, 1
	words(version, agentIsIPv4, localhost, 0, e.datagrams, 0, uint32(len(flows)))
	for i := range flows {
		header := packet(&flows[i])
		padding := make([]byte, -len(header)&3)
		// Sequence number, source, rate, pool, drops, interfaces, records.
		words(flowSample, uint32(8*4+6*4+len(header)+len(padding)), e.flows+uint32(i), 1, 1, 1, 0, 12, 0, 1)
		words(rawHeader, uint32(4*4+len(header)+len(padding)), ethernet, uint32(flows[i].Bytes), 4, uint32(len(header)))
		b = append(append(b, header...), padding...)
	}
	return e.send(b, len(flows))
}

// packet is the beginning of a flow's packet: Ethernet, IP and ports.
func packet(f *Flow) []byte {
	b := []byte{0x0a, 0x58, 0x0a, 0xf4, 0, 1, 0x0a, 0x58, 0x0a, 0xf4, 0, 5}
	length := uint16(f.Bytes - 14)
	if isIPv4(f) {
		b = append(b, 0x08, 0x00, 0x45, 0)
		b = be.AppendUint16(b, length)
		b = append(b, 0, 0, 0, 0, 64, f.Proto, 0, 0)
		b = append(b, f.Src.AsSlice()...)
		b = append(b, f.Dst.AsSlice()...)
	} else {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
		b = be.AppendUint16(b, length-40)
		b = append(b, f.Proto, 64)
		b = append(b, as16(f.Src)...)
		b = append(b, as16(f.Dst)...)
	}
	b = be.AppendUint16(b, f.SrcPort)
	b = be.AppendUint16(b, f.DstPort)
	return append(b, make([]byte, 16)...) // the rest of a TCP header
}
