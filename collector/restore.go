package collector

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
)

// maxTemplateAge is how long before the exporter's last datagram a template may have been
// refreshed, and how long ago that datagram may be, to be trusted after a restart.
const maxTemplateAge = 24 * time.Hour

// errAbandoned is the error if nobody waits any more for the file to be read.
var errAbandoned = errors.New("it was not read in time")

// storedLine is a line of the templates file.
type storedLine struct {
	// A shape. Its number is that of its place among the shapes.
	Shape   uint32        `json:"shape"`
	Version uint16        `json:"version"`
	Options bool          `json:"options"`
	Scopes  int           `json:"scopes"`
	Fields  []storedField `json:"fields"`

	// What a port has announced for an observation domain and version. Times are Unix
	// seconds.
	Exporter  netip.Addr `json:"exporter"`
	Port      uint16     `json:"port"`
	Domain    uint32     `json:"domain"`
	Seen      int64      `json:"seen"` // when its last datagram came; of options data: its address's
	Refreshed uint32     `json:"refreshed"`
	// Templates has three numbers for each template: its id, the number of its shape,
	// and how many seconds before Refreshed it was received last.
	Templates []uint64 `json:"templates"`
	// Rates and BootTimes have four numbers for each value: what kind of thing it is for
	// (optionKind), the id of that, the value, and when it was announced last.
	Rates     []uint64 `json:"rates"`
	BootTimes []uint64 `json:"bootTimes"`
	// Selectors have the kind and id of each selection sequence, and its selectors.
	Selectors [][]uint64   `json:"selectors"`
	Names     []storedName `json:"names"`
}

// storedName is the name of an interface, VRF or application (nameKind).
type storedName struct {
	Kind        uint8  `json:"kind"`
	ID          uint64 `json:"id"`
	Announced   uint32 `json:"announced"`
	Name        []byte `json:"name"`
	Description []byte `json:"description"`
}

// storedPlace is where a line is in the file, in bytes.
type storedPlace struct{ at, length uint32 }

// load reads the table back, and opens the file for what follows. A missing file is an
// empty one. The error is errForeign if the file cannot be used; then nothing was read. If
// it is errInUse, the file was read.
func (f *templatesFile) load(t *exporters, now time.Time) (templates int, err error) {
	openErr := f.open()
	if openErr == nil {
		f.removeLeftovers()
	}
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.rewrite = false // nothing is to be written yet
		return 0, nil
	case err != nil:
		return 0, err
	case !info.Mode().IsRegular():
		return 0, errNotRegular
	}
	file, err := os.Open(f.path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	before, err := firstLine(file)
	if err != nil {
		return 0, err
	}
	if before == templatesFormat1 {
		templates, err = f.load1(file, info, t, now)
		return templates, errors.Join(openErr, err)
	}
	r := &storeReader{f: f, file: file, t: t, now: now.Unix()}
	if before != templatesFormat || info.Size() > 2*maxTemplatesFile {
		return 0, errForeign
	}
	if err := r.check(); err != nil {
		return 0, err
	}
	if err := r.restore(); err != nil {
		return r.templates, err
	}
	t.forgetUntrusted(r.now)
	t.markSaved()
	if openErr == nil {
		if err := f.file.Truncate(r.size); err != nil { // of a line that was not finished
			return r.templates, err
		}
		f.rewrite, f.size, f.compacted, f.shapes = false, r.size, r.size, uint32(len(r.places))
		f.written, f.seenChecked, f.pause = now, now, 0
	}
	return r.templates, openErr
}

// firstLine returns the format that the first line of the file says.
func firstLine(file *os.File) (string, error) {
	lines := bufio.NewScanner(io.LimitReader(file, 1024))
	if !lines.Scan() {
		return "", errors.Join(lines.Err(), errForeign)
	}
	var head storedHead
	if json.Unmarshal(lines.Bytes(), &head) != nil {
		return "", errForeign
	}
	_, err := file.Seek(0, io.SeekStart)
	return head.Format, err
}

// storeReader reads a templates file, a line at a time.
type storeReader struct {
	f    *templatesFile
	file io.ReaderAt
	t    *exporters
	now  int64 // Unix seconds

	// size is how much of the file is whole. What follows was being written when the
	// program was killed.
	size      int64
	places    []storedPlace // of the shapes, by their number - 1
	shapes    []*shape      // those that were used, likewise
	line      storedLine
	templates int
}

// lines calls use for each whole line but the first one, without its CRC and end.
// length is how much of the file is read, in bytes.
func (r *storeReader) lines(length int64, use func(at int64, line []byte)) (whole int64, err error) {
	b := bufio.NewReaderSize(io.NewSectionReader(r.file, 0, length), maxStoredLine)
	for first := true; ; first = false {
		if r.f.abandoned.Load() {
			return whole, errAbandoned
		}
		r.f.progress.Add(1)
		line, err := b.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return whole, nil // the last line is torn, or there is none
		case errors.Is(err, bufio.ErrBufferFull):
			return whole, errForeign
		case err != nil:
			return whole, err
		}
		at := whole
		content, ok := checkLine(line)
		if !first && !ok {
			if _, err := b.ReadByte(); errors.Is(err, io.EOF) {
				return whole, nil
			}
			return whole, errForeign
		}
		whole += int64(len(line))
		if !first {
			use(at+crcLen+1, content)
		}
	}
}

// checkLine returns what is in a line, and reports whether it is whole.
func checkLine(line []byte) (content []byte, ok bool) {
	if len(line) < crcLen+2 || line[crcLen] != ' ' {
		return nil, false
	}
	var sum [4]byte
	if _, err := hex.Decode(sum[:], line[:crcLen]); err != nil {
		return nil, false
	}
	content = line[crcLen+1 : len(line)-1]
	return content, crc32.Checksum(content, crcTable) == binary.BigEndian.Uint32(sum[:])
}

// check finds out how much of the file is whole, and where the shapes are. The error is
// errForeign if a line is damaged that is not the last one.
func (r *storeReader) check() (err error) {
	r.size, err = r.lines(1<<62, func(at int64, line []byte) {
		if bytes.HasPrefix(line, []byte(`{"shape":`)) {
			r.places = append(r.places, storedPlace{uint32(at), uint32(len(line))})
		}
	})
	r.shapes = make([]*shape, len(r.places))
	return err
}

// restore takes over what the file has.
func (r *storeReader) restore() error {
	_, err := r.lines(r.size, func(_ int64, line []byte) {
		if bytes.HasPrefix(line, []byte(`{"shape":`)) {
			return // read when it is used
		}
		l := &r.line
		*l = storedLine{
			Templates: l.Templates[:0], Rates: l.Rates[:0], BootTimes: l.BootTimes[:0], Selectors: l.Selectors[:0], Names: l.Names[:0],
		}
		if json.Unmarshal(line, l) == nil && l.Exporter.IsValid() {
			r.group(l)
		}
	})
	return err
}

// group takes over what a line says of a port and observation domain. Nothing is taken over
// once the total budget is used up.
func (r *storeReader) group(l *storedLine) {
	if r.t.bytes.Load() >= r.t.totalBudget || l.Seen > r.now+60 {
		return
	}
	e := r.t.get(l.Exporter.Unmap(), l.Seen*1e3)
	for i := 0; i+2 < len(l.Templates); i += 3 {
		id, number, age := l.Templates[i], l.Templates[i+1], l.Templates[i+2]
		if s := r.shape(number); s != nil && s.version() == l.Version && id >= minTemplateID && id <= 0xffff && age <= uint64(l.Refreshed) {
			e.learnTemplate(&template{templateKey{l.Domain, l.Version, uint16(id)}, s}, l.Port, int64(l.Refreshed)-int64(age))
			r.templates++
		}
	}
	if len(l.Rates)+len(l.BootTimes)+len(l.Selectors)+len(l.Names) == 0 {
		e.restoreSession(l.Port, l.Seen, r.now)
		return
	}
	r.options(e, l)
}

// options takes over what a line says of options data.
func (r *storeReader) options(e *exporter, l *storedLine) {
	trusted := func(announced uint64) bool {
		at := max(int64(min(announced, 1<<40)), l.Seen)
		return at <= r.now+60 && r.now-at <= int64(maxTemplateAge/time.Second)
	}
	key := optionKey{domain: l.Domain, version: l.Version, port: l.Port}
	for i := 0; i+3 < len(l.Rates); i += 4 {
		kind, id, rate, announced := l.Rates[i], l.Rates[i+1], l.Rates[i+2], l.Rates[i+3]
		if kind < uint64(numOptionKinds) && trusted(announced) {
			key.kind, key.id = optionKind(kind), id
			e.setRate(key, rate, int64(announced))
		}
	}
	for i := 0; i+3 < len(l.BootTimes); i += 4 {
		if announced := l.BootTimes[i+3]; trusted(announced) {
			e.setBootTime(l.Port, l.Domain, l.BootTimes[i+2], int64(announced))
		}
	}
	for _, s := range l.Selectors {
		if len(s) > 2 && len(s) <= 2+maxSelectors && s[0] < uint64(numOptionKinds) && trusted(0) {
			key.kind, key.id = optionKind(s[0]), s[1]
			list := selectorList{n: uint8(len(s) - 2)}
			copy(list.ids[:], s[2:])
			e.setSequence(key, list)
		}
	}
	for i := range l.Names {
		n := &l.Names[i]
		if n.Kind < uint8(namesOfPort) && len(n.Name) <= maxNameLen && len(n.Description) <= maxNameLen && trusted(uint64(n.Announced)) {
			e.learnName(announcedName{nameKey: nameKey{nameKind(n.Kind), n.ID}, nameSource: nameSource{l.Domain, l.Port, n.Announced}, name: n.Name, description: n.Description})
		}
	}
}

// shape returns the shape of a number, nil if there is none. It is checked like one from
// the wire.
func (r *storeReader) shape(number uint64) *shape {
	if number < 1 || number > uint64(len(r.places)) {
		return nil
	}
	if s := r.shapes[number-1]; s != nil {
		return s
	}
	place := r.places[number-1]
	b := make([]byte, place.length)
	if _, err := r.file.ReadAt(b, int64(place.at)); err != nil {
		return nil
	}
	var l storedLine
	if json.Unmarshal(b, &l) != nil || uint64(l.Shape) != number || l.Version != 9 && l.Version != 10 || l.Scopes < 0 || l.Scopes > len(l.Fields) {
		return nil
	}
	fields, ok := netflowFields(l.Fields)
	if !ok {
		return nil
	}
	tmpl := newTemplate(templateKey{0, l.Version, minTemplateID}, fields[:l.Scopes], fields[l.Scopes:], l.Options)
	if tmpl == nil {
		return nil
	}
	tmpl.stored, tmpl.storedIn = uint32(number), r.f.epoch
	r.shapes[number-1] = tmpl.shape
	return tmpl.shape
}

// netflowFields returns the fields of a template. ok is false if one is not valid.
func netflowFields(stored []storedField) (fields []netflow.Field, ok bool) {
	fields = make([]netflow.Field, len(stored))
	for i, f := range stored {
		if len(f) < 2 || len(f) > 3 || f[0] > 0xffff || f[1] > 0xffff {
			return nil, false
		}
		fields[i] = netflow.Field{Type: uint16(f[0]), Length: uint16(f[1])}
		if len(f) == 3 {
			fields[i].PenProvided, fields[i].Pen = true, f[2]
		}
	}
	return fields, true
}

// restoreSession notes when the last datagram of a port came that had sent templates
// before the restart at the given time (both in Unix seconds).
func (e *exporter) restoreSession(port uint16, seen, now int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.session(port); s != nil {
		s.began = now
		s.lastSeen.Store(max(s.lastSeen.Load(), seen))
		e.lastSeen.Store(max(e.lastSeen.Load(), s.lastSeen.Load()*1e3))
	}
}

// forgetUntrusted forgets the sessions that cannot be trusted at the given time (Unix
// seconds), and exporters of which nothing is left.
func (t *exporters) forgetUntrusted(now int64) {
	for _, e := range t.list() {
		e.mu.Lock()
		var old []portNumber
		for port, s := range e.sessions.all() {
			if seen := s.lastSeen.Load(); seen > now+60 || now-seen > int64(maxTemplateAge/time.Second) {
				old = append(old, port)
			}
		}
		for _, port := range old {
			e.forgetSession(port)
		}
		empty := e.sessions.len()+e.rates.values.len()+e.bootTimes.values.len()+e.selectors.len()+e.names.n == 0
		e.mu.Unlock()
		if empty {
			t.mu.Lock()
			t.forget(e)
			t.mu.Unlock()
		}
	}
}

// markSaved notes that the templates file has all that is known.
func (t *exporters) markSaved() {
	for _, e := range t.list() {
		e.mu.Lock()
		for _, s := range e.sessions.all() {
			s.unsaved, s.savedSeen = false, s.lastSeen.Load()
			for _, l := range s.templates.places() {
				l.unsaved = false
			}
		}
		e.unsaved.Store(false)
		e.mu.Unlock()
		e.takeUnsavedOptions(false)
	}
	t.unsaved.Store(false)
}
