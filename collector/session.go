package collector

import (
	"iter"
	"slices"
	"sync/atomic"
	"unsafe"
)

// session is what one source port of an exporter's address has sent. It is the transport
// session that templates belong to (RFC 7011, 8). There is one only while it has
// templates. Fields that are not atomic are guarded by the exporter's mu.
type session struct {
	// lastSeen is when a datagram came last, in Unix seconds.
	lastSeen atomic.Int64
	// used reports whether one of its templates ever gave a record.
	used atomic.Bool
	// process is what it announced as its exportingProcessId (IE 144), 0 if nothing.
	process atomic.Uint32

	// began is when its first template came, or was read from the templates file, in
	// Unix seconds.
	began     int64
	templates sizedMap[templateKey, learnedTemplate]
	// openVSwitch has the templates of Open vSwitch, by id, whatever their domain.
	openVSwitch sizedMap[uint16, ovsTemplates]
	// savedSeen is lastSeen as the templates file has it; unsaved reports whether a
	// template is.
	savedSeen int64
	unsaved   bool
	// shapeBytes is the size of the shapes that no other session of the address had
	// when this one sent them.
	shapeBytes int64
}

// portNumber is a source port plus 1: ports begin at 0, which is no key of a sizedMap.
type portNumber uint32

// portKey names a template as a source port sent it.
type portKey struct {
	templateKey
	port uint16
}

// learnedTemplate is a template of a session. Its key is that of the map.
type learnedTemplate struct {
	shape     *shape
	refreshed uint32 // when it was received last, in Unix seconds
	// first reports whether no other template of the address had the shape then.
	first bool
	// unsaved reports whether it differs from what the templates file has.
	unsaved bool
}

// ovsTemplates are the templates of Open vSwitch under one id. Versions before 3.2
// send them in the first of their observation domains only.
type ovsTemplates struct {
	last *shape // of the template that came last
	n    int32
	sum  uint32 // of the hashes of all shapes
}

// shape returns the one shape that all templates have, nil if they differ.
func (o *ovsTemplates) shape() *shape {
	if o.sum != uint32(o.n)*o.last.hash {
		return nil
	}
	return o.last
}

// bytes returns what the session takes on the heap, without the shapes.
func (s *session) bytes() int64 {
	return allocated(int64(unsafe.Sizeof(*s))) + s.templates.bytes() + s.openVSwitch.bytes()
}

// bytesWith returns what bytes returns at most once a template was added.
func (s *session) bytesWith(sh *shape) int64 {
	n := s.bytes() - s.templates.bytes() + s.templates.bytesWithOneMore()
	if sh.openVSwitch {
		n += s.openVSwitch.bytesWithOneMore() - s.openVSwitch.bytes()
	}
	return n
}

// find returns the shape of a template, and whose it is; nil if there is none.
func (s *session) find(k templateKey) (*shape, fallback) {
	if l := s.templates.get(k); l != nil {
		return l.shape, fallbackNone
	}
	if k.version == 10 {
		if o := s.openVSwitch.get(k.id); o != nil {
			return o.shape(), fallbackDomain
		}
	}
	return nil, fallbackNone
}

// put adds a template, whose key is new.
func (s *session) put(k templateKey, l learnedTemplate) {
	s.templates.put(k, l)
	if l.first {
		s.shapeBytes += l.shape.bytes()
	}
	if !l.shape.openVSwitch {
		return
	}
	o := s.openVSwitch.get(k.id)
	if o == nil {
		s.openVSwitch.put(k.id, ovsTemplates{l.shape, 1, l.shape.hash})
		return
	}
	o.n++
	o.sum += l.shape.hash // modulo 2^32
	o.last = l.shape
}

// remove removes a template, which is there.
func (s *session) remove(k templateKey) (l learnedTemplate) {
	l = *s.templates.get(k)
	s.templates.delete(k)
	if l.first {
		s.shapeBytes -= l.shape.bytes()
	}
	if l.shape.openVSwitch {
		o := s.openVSwitch.get(k.id)
		o.sum -= l.shape.hash
		if o.n--; o.n == 0 {
			s.openVSwitch.delete(k.id)
		}
	}
	return l
}

// sessionGoesBefore reports whether the session a is evicted rather than b: one whose
// templates never gave a record, else the one that takes more bytes, else the one that
// was silent for longer.
func sessionGoesBefore(a, b *session) bool {
	if used := a.used.Load(); used != b.used.Load() {
		return !used
	}
	if x, y := a.bytes()+a.shapeBytes, b.bytes()+b.shapeBytes; x != y {
		return x > y
	}
	return a.lastSeen.Load() < b.lastSeen.Load()
}

// clear makes a session empty that is forgotten. Workers may refer to it for a while.
func (s *session) clear() {
	s.templates = sizedMap[templateKey, learnedTemplate]{}
	s.openVSwitch = sizedMap[uint16, ovsTemplates]{}
}

// session returns the session of a port, nil if it has no templates. e.mu is held.
func (e *exporter) session(port uint16) *session {
	if s := e.sessions.get(portNumber(port) + 1); s != nil {
		return *s
	}
	return nil
}

// ports returns the ports that have sent templates, in order.
func (e *exporter) ports() []uint16 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	ports := make([]uint16, 0, e.sessions.len())
	for port := range e.sessions.all() {
		ports = append(ports, uint16(port-1))
	}
	slices.Sort(ports)
	return ports
}

// allTemplates returns the templates of all sessions. e.mu is held meanwhile.
func (e *exporter) allTemplates() iter.Seq2[portKey, learnedTemplate] {
	return func(yield func(portKey, learnedTemplate) bool) {
		for port, s := range e.sessions.all() {
			for k, l := range s.templates.all() {
				if !yield(portKey{k, uint16(port - 1)}, l) {
					return
				}
			}
		}
	}
}

// countTemplates returns the number of templates of all sessions. e.mu is held.
func (e *exporter) countTemplates() (n int) {
	for _, s := range e.sessions.all() {
		n += s.templates.len()
	}
	return n
}

// addSession makes the session of a port. e.mu is held.
func (e *exporter) addSession(port uint16, now int64) *session {
	s := &session{began: now}
	s.lastSeen.Store(now)
	e.sessions.put(portNumber(port)+1, s)
	e.numSessions.Store(int32(e.sessions.len()))
	e.sessionBytes += s.bytes()
	return s
}

// forgetSession removes a session with its templates. e.mu is held.
func (e *exporter) forgetSession(port portNumber) {
	s := *e.sessions.get(port)
	e.sessionBytes -= s.bytes()
	for _, l := range s.templates.all() {
		e.dropShape(l.shape)
	}
	e.all.numTemplates.Add(-int64(s.templates.len()))
	s.clear()
	e.sessions.delete(port)
	e.numSessions.Store(int32(e.sessions.len()))
	e.account()
	e.changed()
}

// forgetOneSession removes one session of a random few. e.mu is held.
func (e *exporter) forgetOneSession() {
	if port, _, ok := victim(e.sessions.all(), sessionGoesBefore); ok {
		e.forgetSession(port)
	}
}
