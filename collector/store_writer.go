package collector

import (
	"bufio"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
)

// The templates file begins with a line that says its format. Each other line has a CRC
// of what follows it (8 hexadecimal digits of CRC-32C), a space, and a JSON object: a
// shape, which has the number of its place among the shapes, or what a port has announced
// for one observation domain. Later lines add to earlier ones and replace what they name
// again. storedLine has the keys.
const (
	crcLen = 8
	// maxPerLine bounds what a line has of one kind, so that lines are short.
	maxPerLine = 2048
	// maxNamesPerLine does so for names.
	maxNamesPerLine = 128
	// maxStoredLine bounds the length of a line, in bytes.
	maxStoredLine = 1 << 20
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// storedHead is the first line of a templates file.
type storedHead struct {
	Format string `json:"format"`
}

// storeWriter writes lines of a templates file.
type storeWriter struct {
	f    *templatesFile
	w    *bufio.Writer
	n    int64 // bytes written
	room int64
	full bool // something had no room
	err  error

	line, refs []byte
	templates  []savedTemplate
}

// savedTemplate is a template to be written.
type savedTemplate struct {
	templateKey
	shape     *shape
	refreshed uint32
}

func (w *storeWriter) flush() error { return cmp.Or(w.err, w.w.Flush()) }

func (w *storeWriter) head() {
	line := fmt.Appendf(nil, "{\"format\":%q}\n", templatesFormat)
	w.n += int64(len(line))
	if _, err := w.w.Write(line); err != nil {
		w.err = cmp.Or(w.err, err)
	}
}

// put writes a line, and reports whether there was room for it.
func (w *storeWriter) put(line []byte) bool {
	n := int64(crcLen + 1 + len(line) + 1)
	if w.n+n > w.room {
		w.full = true
		return false
	}
	w.n += n
	var sum [crcLen + 1]byte
	hex.Encode(sum[:], binary.BigEndian.AppendUint32(nil, crc32.Checksum(line, crcTable)))
	sum[crcLen] = ' '
	for _, b := range [][]byte{sum[:], line, {'\n'}} {
		if _, err := w.w.Write(b); err != nil {
			w.err = cmp.Or(w.err, err)
		}
	}
	return true
}

// shape returns the number of a shape, which it writes if need be; 0 if there is no room.
func (w *storeWriter) shape(s *shape) uint32 {
	if s.storedIn == w.f.epoch {
		return s.stored
	}
	b := w.line[:0]
	b = append(b, `{"shape":`...)
	b = strconv.AppendUint(b, uint64(w.f.shapes)+1, 10)
	b = append(b, `,"version":`...)
	b = strconv.AppendUint(b, uint64(s.version()), 10)
	if s.options {
		b = append(b, `,"options":true,"scopes":`...)
		b = strconv.AppendUint(b, uint64(s.scopes), 10)
	}
	b = append(b, `,"fields":[`...)
	for i := range s.fields {
		f := &s.fields[i]
		b = append(b, '[')
		b = strconv.AppendUint(b, uint64(f.Type), 10)
		b = append(b, ',')
		b = strconv.AppendUint(b, uint64(f.Length), 10)
		if f.PenProvided {
			b = append(b, ',')
			b = strconv.AppendUint(b, uint64(f.Pen), 10)
		}
		b = append(b, ']', ',')
	}
	b = append(b[:len(b)-1], ']', '}')
	w.line = b
	if !w.put(b) {
		return 0
	}
	w.f.shapes++
	s.stored, s.storedIn = w.f.shapes, w.f.epoch
	return s.stored
}

// version returns the version of the protocol.
func (s *shape) version() uint16 { return binary.BigEndian.Uint16([]byte(s.id[:2])) }

// exporter writes what is known of an exporter's address, or what the file lacks of it.
func (w *storeWriter) exporter(e *exporter, all bool) {
	e.mu.RLock()
	var ports []uint16
	for port, s := range e.sessions.all() {
		if all || s.unsaved {
			ports = append(ports, uint16(port-1))
		}
	}
	e.mu.RUnlock()
	slices.Sort(ports)
	for _, port := range ports {
		w.session(e, port, all)
	}
	rates, bootTimes, selectors, names := e.takeUnsavedOptions(all)
	w.values(e, rates, "rates")
	w.values(e, bootTimes, "bootTimes")
	w.selectors(e, selectors)
	w.names(e, names)
}

// session writes the templates of a port, and when its last datagram came.
func (w *storeWriter) session(e *exporter, port uint16, all bool) {
	e.mu.Lock()
	s := e.session(port)
	if s == nil {
		e.mu.Unlock()
		return
	}
	w.templates = w.templates[:0]
	for k, l := range s.templates.places() {
		if all || l.unsaved {
			w.templates = append(w.templates, savedTemplate{k, l.shape, l.refreshed})
			l.unsaved = false
		}
	}
	seen := s.lastSeen.Load()
	s.unsaved, s.savedSeen = false, seen
	e.mu.Unlock()
	if len(w.templates) == 0 {
		w.line = append(appendGroup(w.line[:0], e.addr, port, 0, 0, seen), '}')
		w.put(w.line)
		return
	}
	slices.SortFunc(w.templates, func(a, b savedTemplate) int {
		return cmp.Or(cmp.Compare(a.domain, b.domain), cmp.Compare(a.version, b.version), cmp.Compare(a.id, b.id))
	})
	for group := range groups(w.templates, maxPerLine, func(a, b savedTemplate) bool { return a.domain == b.domain && a.version == b.version }) {
		w.templateLine(e.addr, port, seen, group)
	}
}

func (w *storeWriter) templateLine(addr netip.Addr, port uint16, seen int64, group []savedTemplate) {
	refreshed := slices.MaxFunc(group, func(a, b savedTemplate) int { return cmp.Compare(a.refreshed, b.refreshed) }).refreshed
	refs := w.refs[:0]
	for i := range group {
		if number := w.shape(group[i].shape); number > 0 {
			refs = appendJSONNumbers(refs, uint64(group[i].id), uint64(number), uint64(refreshed-group[i].refreshed))
		}
	}
	if w.refs = refs; len(refs) == 0 {
		return
	}
	b := appendGroup(w.line[:0], addr, port, group[0].version, group[0].domain, seen)
	b = append(b, `,"refreshed":`...)
	b = strconv.AppendUint(b, uint64(refreshed), 10)
	b = append(b, `,"templates":[`...)
	b = append(b, refs[:len(refs)-1]...)
	b = append(b, ']', '}')
	w.put(b)
	w.line = b
}

// appendGroup appends the start of an object about a port and observation domain.
func appendGroup(b []byte, addr netip.Addr, port, version uint16, domain uint32, seen int64) []byte {
	b = append(b, `{"exporter":"`...)
	b = addr.AppendTo(b)
	b = append(b, `","port":`...)
	b = strconv.AppendUint(b, uint64(port), 10)
	if version != 0 {
		b = append(b, `,"version":`...)
		b = strconv.AppendUint(b, uint64(version), 10)
	}
	if domain != 0 {
		b = append(b, `,"domain":`...)
		b = strconv.AppendUint(b, uint64(domain), 10)
	}
	if seen != 0 {
		b = append(b, `,"seen":`...)
		b = strconv.AppendInt(b, seen, 10)
	}
	return b
}

// appendJSONNumbers appends numbers, each with a comma behind it.
func appendJSONNumbers(b []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		b = strconv.AppendUint(b, n, 10)
		b = append(b, ',')
	}
	return b
}

// groups splits a sorted slice into runs of what belongs together, of at most so many.
func groups[T any](all []T, most int, together func(a, b T) bool) func(yield func([]T) bool) {
	return func(yield func([]T) bool) {
		for len(all) > 0 {
			n := 1
			for n < len(all) && n < most && together(all[0], all[n]) {
				n++
			}
			if !yield(all[:n]) {
				return
			}
			all = all[n:]
		}
	}
}

// savedOption is something from options data to be written.
type savedOption[V any] struct {
	optionKey
	value V
}

func compareOptions[V any](a, b savedOption[V]) int {
	return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.version, b.version), cmp.Compare(a.domain, b.domain),
		cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id))
}

func sameGroup[V any](a, b savedOption[V]) bool {
	return a.port == b.port && a.version == b.version && a.domain == b.domain
}

// takeUnsavedOptions returns all of the options data, or what the file lacks of them, which
// it marks as saved.
func (e *exporter) takeUnsavedOptions(all bool) (rates, bootTimes []savedOption[optionValue], selectors []savedOption[selectorList], names []savedOption[announcedName]) {
	e.mu.Lock()
	defer e.mu.Unlock()
	rates, bootTimes = e.rates.takeUnsaved(all), e.bootTimes.takeUnsaved(all)
	for k, l := range e.selectors.places() {
		if all || l.unsaved {
			selectors = append(selectors, savedOption[selectorList]{k, *l})
			l.unsaved = false
		}
	}
	if buckets := e.names.buckets.Load(); buckets != nil && (all || e.names.unsaved) {
		e.names.unsaved = false
		for i := range *buckets {
			for n := (*buckets)[i].Load(); n != nil; n = n.next.Load() {
				if n.kind != namesOfPort && (all || n.unsaved) {
					n.unsaved = false
					k := optionKey{n.id, n.domain, 0, n.port, optionKind(n.kind)}
					names = append(names, savedOption[announcedName]{k, announcedName{
						nameSource: nameSource{at: atomic.LoadUint32(&n.at)}, name: n.name, description: n.description}})
				}
			}
		}
	}
	return rates, bootTimes, selectors, names
}

func (o *optionsData) takeUnsaved(all bool) (values []savedOption[optionValue]) {
	if !all && !o.unsaved {
		return nil
	}
	o.unsaved = false
	for k, v := range o.values.places() {
		if all || v.unsaved {
			values = append(values, savedOption[optionValue]{k, *v})
			v.unsaved = false
		}
	}
	return values
}

// values writes sampling rates or boot times: of each its kind, the id that it is for, the
// value, and when it was announced.
func (w *storeWriter) values(e *exporter, values []savedOption[optionValue], key string) {
	writeOptions(w, e, values, maxPerLine, key, func(b []byte, v *savedOption[optionValue]) []byte {
		return appendJSONNumbers(b, uint64(v.kind), v.id, v.value.value, uint64(v.value.announced))
	})
}

// selectors writes what selection sequences are made of: of each the kind of its key, the
// id, and the selectors.
func (w *storeWriter) selectors(e *exporter, lists []savedOption[selectorList]) {
	writeOptions(w, e, lists, maxPerLine, "selectors", func(b []byte, l *savedOption[selectorList]) []byte {
		b = append(b, '[')
		b = appendJSONNumbers(b, uint64(l.kind), l.id)
		b = appendJSONNumbers(b, l.value.ids[:l.value.n]...)
		return append(b[:len(b)-1], ']', ',')
	})
}

// names writes names. They are bytes from the wire, so they are in base 64. They are of no
// version of the protocol.
func (w *storeWriter) names(e *exporter, names []savedOption[announcedName]) {
	writeOptions(w, e, names, maxNamesPerLine, "names", func(b []byte, n *savedOption[announcedName]) []byte {
		b = append(b, `{"kind":`...)
		b = strconv.AppendUint(b, uint64(n.kind), 10)
		b = append(b, `,"id":`...)
		b = strconv.AppendUint(b, n.id, 10)
		b = append(b, `,"announced":`...)
		b = strconv.AppendUint(b, uint64(n.value.at), 10)
		b = append(b, `,"name":"`...)
		b = base64.StdEncoding.AppendEncode(b, n.value.name)
		b = append(b, `","description":"`...)
		b = base64.StdEncoding.AppendEncode(b, n.value.description)
		return append(b, `"},`...)
	})
}

// writeOptions writes options data of one kind: a list under key in an object about their port
// and domain, of at most so many values a line. appendValue appends one of them and a comma.
func writeOptions[V any](w *storeWriter, e *exporter, all []savedOption[V], most int, key string, appendValue func(b []byte, o *savedOption[V]) []byte) {
	slices.SortFunc(all, compareOptions[V])
	for group := range groups(all, most, sameGroup[V]) {
		b := appendGroup(w.line[:0], e.addr, group[0].port, group[0].version, group[0].domain, e.lastSeen.Load()/1e3)
		b = append(b, `,"`+key+`":[`...)
		for i := range group {
			b = appendValue(b, &group[i])
		}
		b[len(b)-1] = ']' // in place of a comma
		b = append(b, '}')
		w.put(b)
		w.line = b
	}
}

// markUnsaved notes that the templates file lacks something of the exporter, of a session's
// templates if one is given. e.mu is held.
func (e *exporter) markUnsaved(s *session) {
	if s != nil {
		s.unsaved = true
	}
	if !e.unsaved.Load() {
		e.unsaved.Store(true)
	}
	if !e.all.unsaved.Load() {
		e.all.unsaved.Store(true)
	}
}

// noteSeen marks the sessions whose last datagram came so much later than the templates file
// says that it is to be written.
func (t *exporters) noteSeen() {
	for _, e := range t.list() {
		e.mu.Lock()
		for _, s := range e.sessions.all() {
			if !sameSavedTime(uint32(s.savedSeen), uint32(s.lastSeen.Load())) {
				e.markUnsaved(s)
			}
		}
		e.mu.Unlock()
	}
}
