package collector

// Some of what a datagram makes us do takes much longer than to read its bytes: to make
// a record decoder, to change what options data says, to ask what other ports of the
// address have announced. Each peer earns such work by the bytes that it sends, so that
// a hostile one cannot make its bytes much dearer than those of others. What it has not
// earned is dropped and counted (setBudget). Honest exporters never come near: their
// records have several bytes for each field, and their fields more than one.
//
// Work is in nanoseconds, roughly, on a machine of 2024. Only the proportions matter.
const (
	// workPerByte is what each byte of a datagram earns, half of a tenth of a
	// microsecond. An honest record takes 3 ns a byte.
	workPerByte = 40
	// workAtStart is what a source has that is new to the worker. Its templates may be
	// known, from the templates file or from another worker.
	workAtStart = 8000
	// maxWork bounds what is saved up: for the record decoders of some hundred templates.
	maxWork = 1 << 20

	workOfDecoder  = 1000 // to make a record decoder ...
	workOfField    = 110  // ... and for each of its fields
	workOfOption   = 100  // to change a sampling rate or a boot time
	workOfName     = 300  // to remember a name of options data
	workOfNamer    = 6    // to pass one port's names for the same thing
	workOfRate     = 90   // to look a record's sampling rate up
	workOfQuestion = 1500 // to ask all other ports for it
	workOfHeldSet  = 300  // to keep a data set until its template comes
)

// minCostBytes is the least size of a datagram for what it earns: receiving it takes as
// long as some bytes.
const minCostBytes = 64

// earn notes that a peer has sent so many bytes.
func (p *peer) earn(bytes int) { p.work = min(p.work+bytes*workPerByte, maxWork) }

// mayWork reports whether the peer of the datagram at hand has earned some work, which
// is then done.
func (d *Decoder) mayWork(n int) bool {
	if d.peer.work < n {
		return false
	}
	d.peer.work -= n
	return true
}

// refuse counts that a set or record was dropped because the peer has not earned the work
// it takes.
func (d *Decoder) refuse() {
	d.metrics.dropSet(setBudget)
	d.errors.report(dropBudget, d.peer.source, nil, d.received)
}
