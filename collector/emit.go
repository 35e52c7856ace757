package collector

import "bytes"

// emit hands the decoded record to the worker's handler, with what all records of
// its datagram share: the sequence number and the address of the sampler.
func (d *Decoder) emit(proto protocol, sequence uint32, sampler []byte) {
	m := &d.rec.Msg
	m.TimeReceivedNs = uint64(d.received)
	m.SequenceNum = sequence
	m.SamplerAddress = sampler
	if !bytes.Equal(sampler, d.peer.address) { // an sFlow agent's
		d.rec.Extra.ExporterAddress = d.peer.address
	}
	d.handler.HandleFlow(&d.rec)
	// The record is counted after the handler: one that is lost in a panic of the
	// handler was never received.
	d.metrics.record(proto)
	d.used = true
}
