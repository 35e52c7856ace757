package collector

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

const (
	// templatesFormat begins a templates file, so that another file is not taken
	// for one.
	templatesFormat = "kube-enricher-templates/1"
	// writeInterval is the least time between two writes of a table that changed.
	writeInterval = 2 * time.Second
	// refreshInterval is how often the times of last refresh are written if nothing
	// else changed.
	refreshInterval = time.Minute
	// maxTemplateAge is how long before the exporter's last datagram a template may
	// have been refreshed, and how long ago that datagram may be, to be trusted
	// after a restart.
	maxTemplateAge = 24 * time.Hour
	// writeShare bounds the share of time that writing takes: a write that took a
	// second is followed by a pause of ten.
	writeShare = 10
	// maxTemplatesFile bounds the size of the file, in bytes. Exporters that do not
	// fit are not written. Its content is never in memory as a whole.
	maxTemplatesFile = 512 << 20
	// maxStoredFields bounds the fields of all templates of one exporter that are
	// written. Shapes are written for each template, while the budget counts them
	// once.
	maxStoredFields = 1 << 19
	// maxTemplatesLine bounds the line of one exporter that is read back, in bytes.
	maxTemplatesLine = 32 << 20
	// maintenanceInterval is how often held sets are looked through and a changed
	// table is considered for writing. A first template is written at once.
	maintenanceInterval = 250 * time.Millisecond
)

// The templates file has a line of storedHead, one of storedExporter for each
// exporter, and one of storedTail. All of them are JSON.
type (
	storedHead struct {
		Format string `json:"format"`
	}
	storedTail struct {
		SHA256 string `json:"sha256"` // of the lines before
	}
	storedExporter struct {
		Address   netip.Addr       `json:"address"`
		LastSeen  int64            `json:"lastSeen"` // Unix seconds
		Templates []storedTemplate `json:"templates,omitempty"`
		Sampling  []storedSampling `json:"sampling,omitempty"`
		BootTimes []storedBootTime `json:"bootTimes,omitempty"`
	}
	storedTemplate struct {
		Version   uint16        `json:"version"`
		Domain    uint32        `json:"domain"`
		ID        uint16        `json:"id"`
		Port      uint16        `json:"port"`      // who sent it
		Refreshed int64         `json:"refreshed"` // Unix seconds
		Options   bool          `json:"options,omitempty"`
		Scopes    int           `json:"scopes,omitempty"`
		Fields    []storedField `json:"fields"`
	}
	// storedField is type, length and, for enterprise elements, the number.
	storedField    []uint32
	storedSampling struct {
		Version uint16 `json:"version"`
		Domain  uint32 `json:"domain"`
		Sampler uint64 `json:"sampler,omitempty"`
		Rate    uint64 `json:"rate"`
		storedAnnouncer
		// Kind is an optionKind, Sampler the id of what the rate is for. Files of
		// before have samplers only.
		Kind uint8 `json:"kind,omitempty"`
	}
	storedBootTime struct {
		Domain uint32 `json:"domain"`
		Millis uint64 `json:"unixMilliseconds"`
		storedAnnouncer
	}
	// storedAnnouncer is who announced something, and when, unless it is storedExporter.announcer
	// and LastSeen. Files of before do not have it.
	storedAnnouncer struct {
		Port      *uint16 `json:"port,omitempty"`
		Announced int64   `json:"announced,omitempty"` // Unix seconds
	}
)

// templatesFile keeps the table of exporters across restarts.
type templatesFile struct {
	path    string
	changes uint64        // exporters.changes at the last write
	written time.Time     // time of the last write
	pause   time.Duration // until the next write
}

// errForeign is the error for a file that cannot be used.
var errForeign = errors.New("not a templates file of this program, or damaged")

// save writes the table if it is time to, or if force is true. The file is
// replaced as a whole: it is never half written, even if the program is killed.
func (f *templatesFile) save(t *exporters, now time.Time, force bool) error {
	changes := t.changes.Load()
	since := now.Sub(f.written)
	if !force && (since < f.pause || changes == f.changes && since < refreshInterval) {
		return nil
	}
	f.written = now
	started := time.Now()
	defer func() { f.pause = max(writeInterval, writeShare*time.Since(started)) }()
	if err := replaceFile(f.path, t.write); err != nil {
		return fmt.Errorf("write templates (-templates.file): %w", err)
	}
	f.changes = changes
	return nil
}

// write writes the table in its stored form, an exporter at a time.
func (t *exporters) write(f io.Writer) error {
	sum := sha256.New()
	w := bufio.NewWriter(io.MultiWriter(f, sum))
	size := 0
	writeLine := func(v any) error {
		line, err := json.Marshal(v)
		if err != nil {
			return err
		}
		// A line that is too long is left out; the room is for the last line.
		if line = append(line, '\n'); len(line) > maxTemplatesLine || size+len(line) > maxTemplatesFile-1024 {
			return nil
		}
		size += len(line)
		_, err = w.Write(line)
		return err
	}
	if err := writeLine(storedHead{templatesFormat}); err != nil {
		return err
	}
	for _, e := range t.list() {
		if se := e.stored(); len(se.Templates)+len(se.Sampling)+len(se.BootTimes) > 0 {
			if err := writeLine(se); err != nil {
				return err
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return json.NewEncoder(f).Encode(storedTail{hex.EncodeToString(sum.Sum(nil))})
}

// replaceFile writes a file beside path, syncs it, and renames it to path. If that
// fails, path is as before and the other file is removed.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Cleanup()) }()
	if err := write(f); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync() // not all file systems can; the rename is atomic all the same
		_ = d.Close()
	}
	return nil
}

// load reads the table back. A missing file is an empty one. The error is
// errForeign if the file cannot be used; then nothing was read.
func (f *templatesFile) load(t *exporters, now time.Time) (templates int, err error) {
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size() > maxTemplatesFile || !info.Mode().IsRegular() {
		return 0, errForeign
	}
	// All of the file is checked before any of it is used.
	if err := readTemplates(file, func(*storedExporter) {}); err != nil {
		return 0, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	if err := readTemplates(file, func(se *storedExporter) { templates += t.restore(se, now.Unix()) }); err != nil {
		return templates, err
	}
	f.changes, f.written, f.pause = t.changes.Load(), now, writeInterval
	return templates, nil
}

// readTemplates reads a templates file and calls use for each exporter in it. The
// error is errForeign if the file is damaged, which may be found out only at its
// end.
func readTemplates(r io.Reader, use func(*storedExporter)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxTemplatesLine)
	sum := sha256.New()
	var head storedHead
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &head) != nil || head.Format != templatesFormat {
		return cmp.Or(lines.Err(), errForeign)
	}
	for {
		sum.Write(lines.Bytes())
		sum.Write([]byte{'\n'})
		if !lines.Scan() {
			return cmp.Or(lines.Err(), errForeign) // the last line is missing
		}
		var line struct {
			storedExporter
			storedTail
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			return errForeign
		}
		if line.SHA256 != "" {
			if lines.Scan() || line.SHA256 != hex.EncodeToString(sum.Sum(nil)) {
				return errForeign
			}
			return nil
		}
		use(&line.storedExporter)
	}
}

// stored returns what is kept of an exporter across restarts.
func (e *exporter) stored() *storedExporter {
	se := &storedExporter{Address: e.addr, LastSeen: e.lastSeen.Load() / 1e3}
	e.mu.RLock()
	defer e.mu.RUnlock()
	fields := 0
	for k, l := range e.allTemplates() {
		if fields += len(l.shape.fields); fields > maxStoredFields {
			break
		}
		st := storedTemplate{
			Version: k.version, Domain: k.domain, ID: k.id, Port: k.port, Refreshed: int64(l.refreshed),
			Options: l.shape.options, Scopes: l.shape.scopes,
		}
		for _, f := range l.shape.fields {
			sf := storedField{uint32(f.Type), uint32(f.Length)}
			if f.PenProvided {
				sf = append(sf, f.Pen)
			}
			st.Fields = append(st.Fields, sf)
		}
		se.Templates = append(se.Templates, st)
	}
	announcers := make(announcers)
	for k, v := range e.bootTimes.values.all() {
		se.BootTimes = append(se.BootTimes, storedBootTime{k.domain, v.value, announcers.stored(se, &k, v.announced)})
	}
	for k, v := range e.rates.values.all() {
		s := storedSampling{Version: k.version, Domain: k.domain, Sampler: k.id, Rate: v.value, storedAnnouncer: announcers.stored(se, &k, v.announced)}
		if k.kind > forSelector {
			s.Kind = uint8(k.kind)
		}
		se.Sampling = append(se.Sampling, s)
	}
	return se
}

// restore takes over what was stored of an exporter, as far as it can be trusted at
// the given time (Unix seconds), and returns how many templates that is. Templates
// from the file are checked like those from the wire. Nothing is taken over once
// the total budget is used up.
func (t *exporters) restore(se *storedExporter, now int64) (templates int) {
	trusted := func(at int64) bool {
		return at <= now+60 && now-max(at, se.LastSeen) <= int64(maxTemplateAge/time.Second)
	}
	if !se.Address.IsValid() || !trusted(se.LastSeen) || t.bytes.Load() >= t.totalBudget {
		return 0
	}
	e := t.get(se.Address.Unmap(), se.LastSeen*1e3)
	for i := range se.Templates {
		st := &se.Templates[i]
		if !trusted(st.Refreshed) || st.Scopes < 0 || st.Scopes > len(st.Fields) || st.Version != 9 && st.Version != 10 {
			continue
		}
		fields := make([]netflow.Field, len(st.Fields))
		for i, f := range st.Fields {
			if len(f) < 2 || len(f) > 3 || f[0] > 0xffff || f[1] > 0xffff {
				return templates
			}
			fields[i] = netflow.Field{Type: uint16(f[0]), Length: uint16(f[1])}
			if len(f) == 3 {
				fields[i].PenProvided, fields[i].Pen = true, f[2]
			}
		}
		tmpl := newTemplate(templateKey{st.Domain, st.Version, st.ID}, fields[:st.Scopes], fields[st.Scopes:], st.Options)
		if tmpl != nil {
			e.learnTemplate(tmpl, st.Port, max(st.Refreshed, 0))
			templates++
		}
	}
	e.restoreOptions(se)
	return templates
}

// announcers are the ports that tell the options data of a domain, as far as the templates
// show it: those that sent a template for it, else any template.
type announcers map[optionKey]uint16

// of returns the port for the domain and version of k.
func (t announcers) of(se *storedExporter, k *optionKey) uint16 {
	domain := optionKey{domain: k.domain, version: k.version}
	port, known := t[domain]
	if known {
		return port
	}
	for i := range se.Templates {
		st := &se.Templates[i]
		if st.Options && st.Version == k.version && st.Domain == k.domain && (!known || st.Port > port) {
			port, known = st.Port, true
		}
	}
	for i := 0; !known && i < len(se.Templates); i++ {
		port = max(port, se.Templates[i].Port)
	}
	t[domain] = port
	return port
}

func (t announcers) stored(se *storedExporter, k *optionKey, announced uint32) (s storedAnnouncer) {
	if k.port != t.of(se, k) {
		s.Port = &k.port
	}
	if int64(announced) != se.LastSeen {
		s.Announced = int64(announced)
	}
	return s
}

// restoreOptions takes over what was stored of options data.
func (e *exporter) restoreOptions(se *storedExporter) {
	announcers := make(announcers)
	for _, s := range se.Sampling {
		k := optionKey{id: s.Sampler, domain: s.Domain, version: s.Version, kind: optionKind(s.Kind)}
		if k.kind == forDomain && k.id != 0 {
			k.kind = forSelector
		}
		if k.kind < numOptionKinds && (k.version == 9 || k.version == 10) {
			if k.port = announcers.of(se, &k); s.Port != nil {
				k.port = *s.Port
			}
			e.setRate(k, s.Rate, cmp.Or(s.Announced, se.LastSeen))
		}
	}
	for _, b := range se.BootTimes {
		port := announcers.of(se, &optionKey{domain: b.Domain, version: 10})
		if b.Port != nil {
			port = *b.Port
		}
		e.setBootTime(port, b.Domain, b.Millis, cmp.Or(b.Announced, se.LastSeen))
	}
}

// restoreTemplates reads the templates file at start. It returns nil if none is
// configured. A file that cannot be used is renamed: it is never a reason not to
// start.
func (c *Collector) restoreTemplates() *templatesFile {
	if c.cfg.TemplatesFile == "" {
		return nil
	}
	f := &templatesFile{path: c.cfg.TemplatesFile}
	n, err := f.load(c.exporters, time.Now())
	log := c.log.WithField("file", f.path)
	switch {
	case errors.Is(err, errForeign):
		bad := f.path + ".bad"
		if rerr := os.Rename(f.path, bad); rerr != nil {
			err = errors.Join(err, rerr)
		}
		log.WithError(err).Warnf("the templates file cannot be used and is set aside as %s; data waits for new templates", bad)
	case err != nil:
		log.WithError(err).Warn("the templates file cannot be read; data waits for new templates")
	default:
		log.WithField("templates", n).Debug("templates restored")
	}
	return f
}

// runMaintenance drops held sets that have waited for too long and writes the
// templates file, until done is closed. Then it drops all held sets and writes the
// file once more. f is nil if there is no file.
func (c *Collector) runMaintenance(f *templatesFile, done <-chan struct{}) {
	tick := time.NewTicker(maintenanceInterval)
	defer tick.Stop()
	var limiter ratelog.Limiter
	var shared sharing
	var full holdWarning
	save := func(now time.Time, last bool) {
		if f == nil {
			return
		}
		err := f.save(c.exporters, now, last)
		if err == nil {
			return
		}
		log := limiter.Logger(c.log, now.UnixNano())
		if last {
			log = c.log
		}
		if log != nil {
			log.WithError(err).Error("templates are not kept for the next start")
		}
	}
	for {
		select {
		case now := <-tick.C:
			c.exporters.lendTemplates(now.UnixNano(), false)
			c.exporters.expireHeld(now.UnixNano(), c.own)
			shared.check(c.exporters, now.UnixNano(), c.log)
			full.check(c, now.UnixNano())
			save(now, false)
		case <-done:
			c.exporters.expireHeld(0, c.own)
			save(time.Now(), true)
			return
		}
	}
}
