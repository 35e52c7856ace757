package collector

import (
	"encoding/binary"
	"slices"
)

// assembler makes datagrams of a program.
type assembler struct {
	program      []byte
	before, load []datagram
	sets         []byte // of the datagram at hand
	room         int    // for more bytes
	counter      int    // goes on, so that what is sent changes
}

const (
	maxDatagram = 1472
	maxProgram  = 48 << 10 // bytes of all datagrams
)

func (a *assembler) next() int {
	if len(a.program) == 0 {
		return 0
	}
	b := a.program[0]
	a.program = a.program[1:]
	return int(b)
}

func choose[T any](a *assembler, of ...T) T { return of[a.next()%len(of)] }

// instruction does one of eight.
func (a *assembler) instruction(op int) {
	switch op {
	case 0, 1:
		a.templates()
	case 2, 3:
		a.data()
	case 4:
		a.sflow()
	case 5:
		a.send(a.next())
	case 6:
		a.send(a.next())
		a.before, a.load = append(a.before, a.load...), nil
	case 7:
		n := min(a.next(), len(a.program))
		a.add(a.program[:n])
		a.program = a.program[n:]
	}
}

// add adds to the datagram at hand, which is sent if it is full.
func (a *assembler) add(b []byte) {
	if len(a.sets)+len(b) > maxDatagram-20 {
		a.send(0)
	}
	a.sets = append(a.sets, b[:min(len(b), maxDatagram-20)]...)
}

// send sends the sets at hand from one source or from several.
func (a *assembler) send(kind int) {
	n, version := 1, 10
	if kind&1 != 0 {
		version = 9
	}
	if kind&2 != 0 {
		n = 20
	}
	for i := range n {
		source, domain, sequence := testSource, uint32(1), uint32(0)
		switch kind >> 2 % 8 {
		case 1:
			source = fromPort(i)
		case 2:
			source = forged(i)
		case 3:
			domain = uint32(i)
		case 4:
			source, sequence = fromPort(i), uint32(a.counter*1000+i)
		case 5:
			source = fromPort(a.counter)
		case 6:
			domain = uint32(a.counter)
		}
		message := v9Message(sequence, domain, a.sets)
		if version == 10 {
			message = ipfixMessage(sequence, domain, a.sets)
		}
		if a.room -= costBytes(message); a.room < 0 {
			break
		}
		a.load = append(a.load, datagram{source, message, testTime})
	}
	a.sets = nil
}

// What programs choose from. What is there more than once is more likely.
var (
	searchIDs          = []int{0, 0, 1, 2, 3, 100}
	searchTemplates    = []int{1, 1, 1, 2, 10, 60, 200}
	searchFields       = []int{1, 1, 2, 2, 3, 4, 6}
	searchFieldLengths = []uint16{1, 1, 1, 2, 4, 8, 16, 0, variableLength, 300}
	searchPENs         = []uint32{0, 0, 0, 0, 0, penReverse, 6876, 6871}
	searchRepeats      = []int{1, 1, 1, 1, 5, 60, 300}
	searchLengths      = []int{0, 1, 1, 2, 3, 4, 5, 8, 20, 60, 200, 340, 700, 1400}
	searchSets         = []int{1, 1, 2, 10, 60, 300}
)

// searchElements are those that decoding treats by themselves.
var searchElements = []uint16{1, 2, 4, 7, 8, 9, 10, 12, 14, 15, 18, 21, 22, 23, 27, 29, 32, 34, 44, 47, 48, 50, 52, 56, 57, 58, 60, 61, 62, 70, 71, 79,
	80, 82, 83, 85, 89, 94, 95, 96, 139, 140, 149, 150, 152, 154, 158, 160, 161, 169, 176, 177, 178, 180, 181, 192, 195, 225, 231, 232, 234, 235, 236,
	239, 243, 252, 256, 298, 299, 301, 302, 304, 305, 306, 309, 310, 311, 313, 315, 322, 325, 351, 352, 400, 1000, 5000}

// templates adds templates of consecutive ids, or withdraws them.
func (a *assembler) templates() {
	kind := a.next()
	options, scopes, v9, withdrawn := kind&1 != 0, kind>>1&1, kind&16 != 0, kind&96 == 96
	id := uint16(256 + choose(a, searchIDs...))
	count := choose(a, searchTemplates...)
	fields := a.fields()
	for i := range count {
		own := slices.Clone(fields)
		switch kind >> 2 % 4 {
		case 1:
			own[len(own)-1].typ = uint16(2000 + i) // shapes differ
		case 2:
			own[len(own)-1].typ = uint16(2000 + a.counter*200 + i)
		}
		if withdrawn {
			own = nil
		}
		switch n := id + uint16(i); {
		case options && v9:
			a.add(set(1, v9OptionsRecord(n, scopes, own...)))
		case options:
			a.add(set(3, optionsRecord(n, scopes, own...)))
		case v9:
			a.add(set(0, templateRecord(n, own...)))
		default:
			a.add(set(2, templateRecord(n, own...)))
		}
	}
}

func (a *assembler) fields() []ie {
	var fields []ie
	for range choose(a, searchFields...) {
		f := ie{choose(a, searchElements...), choose(a, searchFieldLengths...), choose(a, searchPENs...)}
		repeated := choose(a, searchRepeats...)
		following := a.next()&1 != 0
		for i := range repeated {
			if following {
				f.typ += uint16(min(i, 1))
			}
			if fields = append(fields, f); len(fields) == maxTemplateFields {
				return fields
			}
		}
	}
	return fields
}

// data adds data sets.
func (a *assembler) data() {
	id := uint16(256 + choose(a, searchIDs...))
	length := choose(a, searchLengths...)
	count, step := choose(a, searchSets...), uint16(choose(a, 0, 1))
	kind, value := a.next()%5, a.next()
	for i := range count {
		content := make([]byte, length)
		for j := range content {
			switch kind {
			case 1:
				content[j] = byte(value)
			case 2:
				content[j] = byte(j + value)
			case 3:
				content[j] = byte(i + j + a.counter)
			case 4:
				content[j] = byte((i + j) % 2 * value)
			}
		}
		a.add(set(id+uint16(i)*step, content))
	}
}

// sflow sends a datagram of sFlow.
func (a *assembler) sflow() {
	var b []byte
	for range choose(a, 1, 2, 10, 40) {
		s := structure(choose[uint32](a, 1, 2, 3, 4, 1001, 1002, 1003, 1024, 1030, 7), a.structure())
		b = append(b, s...)
	}
	b = b[:min(len(b), maxDatagram-100)]
	var samples [][]byte
	for range choose(a, 1, 2, 20) {
		samples = append(samples, flowSample(1, 2, b))
	}
	m := sflowMessage(samples...)
	m = m[:min(len(m), maxDatagram)]
	binary.BigEndian.PutUint32(m[24:], uint32(len(samples)))
	if a.room -= costBytes(m); a.room >= 0 {
		a.load = append(a.load, datagram{testSource, m, testTime})
	}
}

// structure returns the content of a structure.
func (a *assembler) structure() []byte {
	repeated := slices.Repeat([]byte{byte(a.next()), byte(a.next()), byte(a.next()), byte(a.next())}, choose(a, 0, 1, 4, 10, 60, 250))
	switch a.next() % 6 {
	case 0:
		return repeated
	case 1:
		return be(uint32(1), uint32(100), uint32(0), uint32(0), ethernet(uint16(a.next()<<8|a.next()), repeated))
	case 2:
		return be(uint32(11), uint32(100), uint32(0), uint32(0), ipv4Packet(byte(a.next()), 0, repeated))
	case 3:
		return be(uint32(12), uint32(100), uint32(0), uint32(0), ipv6Packet(byte(a.next()), repeated))
	case 4:
		return be(uint32(13), uint32(100), uint32(0), uint32(0), repeated)
	}
	return be(uint32(0), make([]byte, 12), uint32(a.next()), repeated)
}

// Parts of programs, for the seeds.

func indexOf[T comparable](list []T, v T) byte { return byte(slices.Index(list, v)) }

// seedField is a field, or as many in a row. With following the elements follow each other.
type seedField struct {
	ie
	repeated  int
	following byte
}

// Kinds of templates.
const (
	ofData      = 0
	ofOptions   = 1 | 1<<1 // with one scope
	ofOwnShapes = 1 << 2   // each has another last field
)

func seedTemplates(kind byte, count int, fields ...seedField) []byte {
	p := []byte{0, kind, 0, indexOf(searchTemplates, count), indexOf(searchFields, len(fields))}
	for _, f := range fields {
		p = append(p, indexOf(searchElements, f.typ), indexOf(searchFieldLengths, f.length), indexOf(searchPENs, f.pen), indexOf(searchRepeats, f.repeated), f.following)
	}
	return p
}

// seedSets are sets of one template, or with step 1 of as many templates in turn.
func seedSets(length, count int, step byte) []byte {
	const counting = 3
	return []byte{2, 0, indexOf(searchLengths, length), indexOf(searchSets, count), step, counting, 1}
}

// The end of what is sent before the load, from one source or from 20 ports.
var (
	seedBefore      = []byte{6, 0}
	seedBeforePorts = []byte{6, 2 | 1<<2}
)

// searchSeeds are programs of the kinds of work that datagrams ask for.
func searchSeeds() [][]byte {
	one := func(typ uint16) seedField { return seedField{ie{typ, 1, 0}, 1, 0} }
	return [][]byte{
		// Record decoders.
		slices.Concat(seedTemplates(ofOwnShapes, 60, seedField{ie{1, 1, 0}, 60, 1}), seedBefore, seedSets(0, 60, 1)),
		slices.Concat(seedTemplates(ofOwnShapes, 60, seedField{ie{1, 1, 0}, 60, 1}), seedBefore, seedSets(60, 60, 1)),
		slices.Concat(seedTemplates(ofOwnShapes, 200, one(1)), seedBefore, seedSets(1, 300, 1)),
		// Fields, with a length and without.
		slices.Concat(seedTemplates(ofData, 1, seedField{ie{1, 0, penReverse}, 300, 0}, one(400)), seedBefore, seedSets(1400, 1, 0)),
		slices.Concat(seedTemplates(ofData, 1, seedField{ie{8, variableLength, 0}, 300, 0}), seedBefore, seedSets(1400, 1, 0)),
		slices.Concat(seedTemplates(ofData, 1, one(231)), seedBefore, seedSets(1400, 1, 0)),
		slices.Concat(seedTemplates(ofData, 1, one(315)), seedBefore, seedSets(1400, 1, 0)),
		// Options data.
		slices.Concat(seedTemplates(ofOptions, 1, one(34)), seedBefore, seedSets(1400, 1, 0)),
		slices.Concat(seedTemplates(ofOptions, 1, one(149), one(10), one(82)), seedBefore, seedSets(1400, 1, 0)),
		slices.Concat(seedTemplates(ofOptions, 1, one(10), one(82)), seedSets(60, 1, 0), seedBeforePorts,
			seedTemplates(ofData, 1, one(10)), seedBefore, seedSets(1400, 1, 0)),
		// Templates, sets without one, and samples.
		seedTemplates(ofOwnShapes, 200, one(1)),
		seedSets(1, 300, 1),
		{4, 2, 0, 1, 2, 3, 4, 3, 1, 8, 0, 1},
	}
}
