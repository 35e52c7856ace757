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
	// workPerByte is what each byte of a datagram earns. An honest record takes 3 ns a byte.
	workPerByte = 35
	// sparePerByte is what it earns for whatever peer of the worker needs it, and maxSpare
	// is what a worker begins with: after a start no peer has earned anything, but templates
	// are known from the templates file.
	sparePerByte = 5
	maxSpare     = 1 << 22
	// maxWork bounds what a peer saves up: for the record decoders of some hundred templates.
	maxWork = 1 << 20

	workOfDecoder  = 2200 // to make a record decoder ...
	workOfField    = 110  // ... and for each of its fields
	workOfColdSet  = 600  // to read a set whose template was not in use just now
	workOfOption   = 130  // to change a sampling rate or a boot time
	workOfName     = 300  // to remember a name of options data
	workOfNamer    = 8    // to pass one port's names for the same thing
	workOfRate     = 90   // to look a record's sampling rate up
	workOfQuestion = 1500 // to ask all other ports for it, or for a boot time
	workOfTemplate = 250  // to remember a template ...
	workOfEviction = 400  // ... and to forget another one for it
	workOfHeldSet  = 300  // to keep a data set until its template comes
)

// minCostBytes is the least size of a datagram for what it earns: receiving it takes as
// long as some bytes.
const minCostBytes = 64

// earn notes that the peer of the datagram at hand has sent so many bytes.
func (d *Decoder) earn(bytes int) {
	d.peer.work = min(d.peer.work+bytes*workPerByte, maxWork)
	d.spareWork = min(d.spareWork+bytes*sparePerByte, maxSpare)
}

// mayWork reports whether the peer of the datagram at hand has earned some work, or others
// have some to spare. The work is then done.
func (d *Decoder) mayWork(n int) bool {
	switch {
	case d.peer.work >= n:
		d.peer.work -= n
	case d.spareWork >= n:
		d.spareWork -= n
	default:
		return false
	}
	return true
}

// spend notes that work was done whose amount was not known before: somebody may owe some
// then.
func (d *Decoder) spend(n int) {
	if d.peer.work >= 0 {
		d.peer.work -= n
	} else {
		d.spareWork -= n
	}
}

// owes reports whether the peer of the datagram at hand owes work, and others have none to
// spare. It may not spend more until it has earned that.
func (d *Decoder) owes() bool { return d.peer.work < 0 && d.spareWork <= 0 }

// recentBindings has bindings of late, by a hash. Those that are not there are likely not in
// the caches of the CPU: to use one takes as long as to read some records.
type recentBindings [128]*templateBinding

// mayUse reports whether the peer of the datagram at hand has earned the work of using a
// binding of it.
func (d *Decoder) mayUse(b *templateBinding) bool {
	k := &b.key
	recent := &d.recent[(uint32(k.id)+k.domain*31+uint32(d.peer.source.Port())*7)%uint32(len(d.recent))]
	if *recent == b {
		return true
	}
	if !d.mayWork(workOfColdSet) {
		return false
	}
	*recent = b
	return true
}

// refuse counts that a set or record was dropped because the peer has not earned the work
// it takes.
func (d *Decoder) refuse() {
	d.metrics.dropSet(setBudget)
	d.errors.report(dropBudget, d.peer.source, nil, d.received)
}
