package gen

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// packedOften has the numbers that differ between most records, packedSeldom the first ones
// of the others. The sums of package recent read some of them alone, which come first.
var (
	packedOften = []string{
		"Bytes", "Packets", "SequenceNum", "SrcPort", "DstPort", "InIf", "OutIf", "SrcMac", "DstMac",
		"TimeFlowStartNs", "TimeFlowEndNs", "Proto", "IPTTL", "TCPFlags", "IPTos",
	}
	packedSeldom = []string{"SamplingRate", "Type"}
)

// packedFirst has the fields of variable length that the sums read, and those that most
// records have.
var (
	packedFirst = []string{"SamplerAddress", "Verdict"}
	packedMost  = []string{"SrcAddr", "DstAddr", "NextHop"}
)

// maxPacked is how many words numbers may take in package recent, and how many fields may
// have values of variable length, the elements of the user's list being one of them: each is
// a bit of a number.
const maxPacked = 64

// packed returns internal/recent/pack_gen.go.
func packed(fields []field) (string, error) {
	numbers := slices.DeleteFunc(byNumber(fields, func(*flow.Field) bool { return true }), func(f field) bool {
		return !f.packedNumber()
	})
	rank(numbers, slices.Concat(packedOften, packedSeldom))
	variable := slices.DeleteFunc(byNumber(fields, func(*flow.Field) bool { return true }), func(f field) bool {
		return f.path == "" || f.typ.Kind() != reflect.Slice
	})
	rank(variable, slices.Concat(packedFirst, packedMost))
	words, often := packedWords(numbers)
	if len(words) > maxPacked || len(variable) >= maxPacked {
		return "", fmt.Errorf("package recent has no room for more than %d words of numbers and %d fields of variable length; there are %d and %d",
			maxPacked, maxPacked-1, len(words), len(variable))
	}
	b := new(bytes.Buffer)
	p := func(format string, args ...any) { fmt.Fprintf(b, format, args...) }
	p("%spackage recent\n\nimport (\n\"encoding/binary\"\n\nflowpb \"github.com/netsampler/goflow2/v2/pb\"\n\n\"github.com/netobserv/goflow2-kube-enricher/flow\"\n)\n\n", header)
	p("// numWords is how many words the numbers of a record take. The first oftenWords of them\n// differ between most records.\nconst (\nnumWords = %d\noftenWords = %d\n)\n\n", len(words), often)
	p("// The first words of some numbers.\nconst (\n")
	for i, w := range words {
		if name := w.first(); slices.Contains(packedSeldom, name) || i < 4 && name != "" {
			p("word%s = %d\n", name, i)
		}
	}
	p(")\n\n// The bits of the fields that a record may lack.\nconst (\n")
	for i, f := range variable {
		p("bit%s uint64 = 1 << %d\n", strings.TrimPrefix(f.ident, "Field"), i)
	}
	p("bitElements uint64 = 1 << %d\n)\n", len(variable))
	packWords(p, words, often)
	setWords(p, words)
	packVariable(p, variable)
	return b.String(), nil
}

// rank sorts fields: those with a name come first, in the order of the names.
func rank(fields []field, names []string) {
	of := func(f field) int {
		if i := slices.Index(names, f.Name); i >= 0 {
			return i
		}
		return len(names)
	}
	slices.SortStableFunc(fields, func(a, b field) int { return of(a) - of(b) })
}

// packedNumber reports whether the field is a number that is packed: it has a place of
// its own in a record, and is not the time of receipt, which a packed record begins with.
func (f *field) packedNumber() bool {
	if f.path == "" || f.Name == "TimeReceivedNs" {
		return false
	}
	switch f.typ.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Int32:
		return true
	}
	return false
}

// part is a field, or a half of one, in a word.
type part struct {
	field
	shift int  // in the word
	high  bool // the upper half of a number of 64 bits
	bits  int
}

// word has the parts of 32 bits that are packed together.
type word []part

// first returns the name of the field that begins in the word.
func (w word) first() string {
	if w[0].high {
		return ""
	}
	return w[0].Name
}

// packedWords divides numbers into words: those of 64 bits take two, and several short ones
// share one. It returns how many words differ between most records.
func packedWords(numbers []field) (words []word, often int) {
	var short []part
	for i, f := range numbers {
		if i == len(packedOften) {
			often = len(words)
		}
		switch f.typ.Kind() {
		case reflect.Uint64:
			words = append(words, word{{field: f, bits: 32}}, word{{field: f, bits: 32, high: true}})
		case reflect.Uint8, reflect.Uint16:
			short = append(short, part{field: f, bits: f.typ.Bits()})
		default:
			words = append(words, word{{field: f, bits: 32}})
		}
	}
	slices.SortStableFunc(short, func(a, b part) int { return b.bits - a.bits })
	used := 32
	for _, s := range short {
		if used+s.bits > 32 {
			words, used = append(words, nil), 0
		}
		s.shift = used
		words[len(words)-1] = append(words[len(words)-1], s)
		used += s.bits
	}
	return words, often
}

// value returns the expression for a word of a record.
func (w word) value() string {
	var parts []string
	for _, p := range w {
		v := p.path
		if strings.HasPrefix(p.Name, "TimeFlow") {
			v = "fold(" + v + "-r.Msg.TimeReceivedNs)"
		}
		if p.high {
			v += ">>32"
		}
		if p.typ.Kind() != reflect.Uint32 {
			v = "uint32(" + v + ")"
		}
		if p.shift > 0 {
			v += fmt.Sprintf("<<%d", p.shift)
		}
		parts = append(parts, v)
	}
	return strings.Join(parts, " | ")
}

// packWords writes what packs numbers. Times are differences from the time of receipt, and
// so most often short.
func packWords(p func(string, ...any), words []word, often int) {
	p("\n// wordsOf puts the words of the numbers of r into w.\nfunc wordsOf(w *[numWords]uint32, r *flow.Record) {\n")
	for i, w := range words {
		p("w[%d] = %s\n", i, w.value())
	}
	p(`}

// putOften packs the first words of the numbers of r at b, which must have room for all of
// them: those that differ from w, as their difference. It returns which they are, and how
// many bytes they take.
func putOften(b []byte, w *[numWords]uint32, r *flow.Record) (mask uint64, n int) {
var d uint32
var m uint64
`)
	put := func(i int) {
		p("d = %s ^ w[%d]\nbinary.LittleEndian.PutUint32(b[n:], d)\nm = notZero(d)\nmask |= m<<%d\nn += int(m<<2)\n", words[i].bracketed(), i, i)
	}
	for i := range often {
		put(i)
	}
	p(`return mask, n
}

// seldomDiffer reports whether one of the other words differs.
func seldomDiffer(w *[numWords]uint32, r *flow.Record) bool {
var d uint32
`)
	for i := often; i < len(words); i++ {
		p("d |= %s ^ w[%d]\n", words[i].bracketed(), i)
	}
	p(`return d != 0
}

// putSeldom is putOften for the other words.
func putSeldom(b []byte, w *[numWords]uint32, r *flow.Record) (mask uint64, n int) {
var d uint32
var m uint64
`)
	for i := often; i < len(words); i++ {
		put(i)
	}
	p("return mask, n\n}\n")
}

func (w word) bracketed() string {
	if len(w) > 1 {
		return "(" + w.value() + ")"
	}
	return w.value()
}

// setWords writes what puts words into a record.
func setWords(p func(string, ...any), words []word) {
	p(`
// setWords sets the numbers of r, whose time of receipt is set.
func setWords(r *flow.Record, w *[maxWords]uint32) {
`)
	for i, w := range words {
		for _, s := range w {
			v := fmt.Sprintf("w[%d]", i)
			if s.shift > 0 {
				v += fmt.Sprintf(">>%d", s.shift)
			}
			switch {
			case s.high:
				continue
			case s.typ.Kind() == reflect.Uint64:
				v = fmt.Sprintf("uint64(w[%d]) | uint64(w[%d])<<32", i, i+1)
				if strings.HasPrefix(s.Name, "TimeFlow") {
					v = "unfold(" + v + ") + r.Msg.TimeReceivedNs"
				}
			case s.typ.Kind() == reflect.Int32:
				v = enumName(s.typ) + "(" + v + ")"
			case s.typ.Kind() != reflect.Uint32:
				v = fmt.Sprintf("%s(%s)", s.typ, v)
			}
			p("%s = %s\n", s.path, v)
		}
	}
	p("}\n")
}

func enumName(t reflect.Type) string { return "flowpb." + t.Name() }

// packVariable writes what packs fields of variable length.
func packVariable(p func(string, ...any), variable []field) {
	p(`
// variable returns which fields of variable length r has, and an upper bound for their
// length when they are packed.
func variable(r *flow.Record) (mask uint64, size int) {
`)
	common := len(packedFirst) + len(packedMost)
	for i, f := range variable {
		if i == common {
			p("if seldomLen(r) > 0 {\nmore, n := seldomVariable(r)\nmask |= more\nsize += n\n}\nreturn mask, size\n}\n")
			p("\n// seldomLen is more than 0 if r has others than those that most records have.\nfunc seldomLen(r *flow.Record) int {\nreturn len(r.Extra.Elements)")
			for _, f := range variable[common:] {
				p(" |\nlen(%s)", f.path)
			}
			p("\n}\n\n// seldomVariable is variable for those.\nfunc seldomVariable(r *flow.Record) (mask uint64, size int) {\n")
		}
		bit := "bit" + strings.TrimPrefix(f.ident, "Field")
		p("if n := len(%s); n > 0 {\nmask |= %s\nsize += %s\n}\n", f.path, bit, packedSize(f))
	}
	p("if len(r.Extra.Elements) > 0 {\nmask |= bitElements\nsize += elementsSize(r.Extra.Elements)\n}\nreturn mask, size\n}\n")
	p(`
// appendVariable packs the fields of variable length that mask has.
func appendVariable(b []byte, mask uint64, r *flow.Record) []byte {
`)
	for i, f := range variable {
		if i == common {
			p("if mask >= 1<<%d {\nb = appendSeldom(b, mask, r)\n}\nreturn b\n}\n\nfunc appendSeldom(b []byte, mask uint64, r *flow.Record) []byte {\n", common)
		}
		p("if mask&bit%s != 0 {\nb = append%s(b, %s)\n}\n", strings.TrimPrefix(f.ident, "Field"), packedForm(f), f.path)
	}
	p("if mask&bitElements != 0 {\nb = appendElements(b, r.Extra.Elements)\n}\nreturn b\n}\n")
	p(`
// variable unpacks the fields of variable length that mask has, from b. Slices alias b
// and the lists of u.
func (u *unpacker) variable(b []byte, mask uint64, r *flow.Record) {
`)
	for i, f := range variable {
		if i == common {
			p("if mask >= 1<<%d {\nu.seldom(b, mask, r)\n}\n}\n\nfunc (u *unpacker) seldom(b []byte, mask uint64, r *flow.Record) {\n", common)
		}
		form := packedForm(f)
		p("if mask&bit%s != 0 {\n%s, b = ", strings.TrimPrefix(f.ident, "Field"), f.path)
		if form == "Bytes" {
			p("takeBytes(b)\n}\n")
		} else {
			p("u.take%s(b)\n}\n", form)
		}
	}
	p("if mask&bitElements != 0 {\nr.Extra.Elements = u.takeElements(b)\n}\n}\n")
	p("\n// forget empties the fields that mask has.\nfunc forget(r *flow.Record, mask uint64) {\n")
	for _, f := range variable {
		p("if mask&bit%s != 0 {\n%s = nil\n}\n", strings.TrimPrefix(f.ident, "Field"), f.path)
	}
	p("if mask&bitElements != 0 {\nr.Extra.Elements = nil\n}\n}\n")
}

// packedForm returns the shape of a field of variable length.
func packedForm(f field) string {
	switch f.Kind {
	case flow.KindUints:
		return "Uints"
	case flow.KindAddrs:
		return "Addrs"
	case flow.KindLayers:
		return "Layers"
	}
	return "Bytes"
}

func packedSize(f field) string {
	switch f.Kind {
	case flow.KindUints, flow.KindLayers:
		return "maxUvarint + maxUvarint*n"
	case flow.KindAddrs:
		return "addrsSize(" + f.path + ")"
	}
	return "maxUvarint + n"
}
