package collector

import (
	"bufio"
	"bytes"
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

	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

const (
	// storeFormat begins a templates file, so that a foreign one is told apart.
	storeFormat = "kube-enricher-templates/1"
	// storeInterval is how often a changed table is written, at most.
	storeInterval = 2 * time.Second
	// storeRefresh is how often the times of last refresh are written when
	// nothing else changed.
	storeRefresh = time.Minute
	// storeTrust is how old a template may be: neither it nor anything else of
	// its exporter was received for that long.
	storeTrust = 24 * time.Hour
	// maxStoreSize bounds what is read back, in bytes.
	maxStoreSize = 256 << 20
)

// The templates file is a line of storedHead, a line of storedExporter for each
// exporter, and a line of storedTail, all of them JSON.
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
		Port      uint16        `json:"port"`          // who sent it
		Own       bool          `json:"own,omitempty"` // kept for that port alone
		Refreshed int64         `json:"refreshed"`     // Unix seconds
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
	}
	storedBootTime struct {
		Domain uint32 `json:"domain"`
		Millis uint64 `json:"unixMilliseconds"`
	}
)

// store keeps the table of exporters in a file.
type store struct {
	path    string
	changes uint64    // as of the last write
	written time.Time // time of the last write
}

// errForeign says that a file is not one that we wrote.
var errForeign = errors.New("not a templates file of this program, or damaged")

// save writes the table if it changed. The file is replaced as a whole, so that
// it is never half written, whenever the program is killed.
func (s *store) save(t *exporters, now time.Time, force bool) error {
	changes := t.changes.Load()
	if !force && (changes == s.changes || now.Sub(s.written) < storeInterval) && now.Sub(s.written) < storeRefresh {
		return nil
	}
	s.written = now
	if err := replaceFile(s.path, t.write); err != nil {
		return fmt.Errorf("write templates (-templates.file): %w", err)
	}
	s.changes = changes
	return nil
}

// write writes the table in its stored form, an exporter at a time.
func (t *exporters) write(f io.Writer) error {
	sum := sha256.New()
	w := bufio.NewWriter(io.MultiWriter(f, sum))
	enc := json.NewEncoder(w)
	if err := enc.Encode(storedHead{storeFormat}); err != nil {
		return err
	}
	for _, e := range t.all() {
		if se := e.stored(); len(se.Templates)+len(se.Sampling)+len(se.BootTimes) > 0 {
			if err := enc.Encode(se); err != nil {
				return err
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return json.NewEncoder(f).Encode(storedTail{hex.EncodeToString(sum.Sum(nil))})
}

// replaceFile writes a file beside path, syncs it, and renames it to path.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if dir, derr := os.Open(filepath.Dir(path)); derr == nil {
		_ = dir.Sync() // not all file systems can; the rename is atomic all the same
		_ = dir.Close()
	}
	return nil
}

// load reads the table back. A missing file is an empty one; errForeign says
// that the file cannot be used.
func (s *store) load(t *exporters, now time.Time) (templates int, err error) {
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if info.Size() > maxStoreSize || !info.Mode().IsRegular() {
		return 0, errForeign
	}
	content, err := os.ReadFile(s.path)
	if err != nil {
		return 0, err
	}
	exporters, ok := parseStore(content)
	if !ok {
		return 0, errForeign
	}
	for i := range exporters {
		templates += t.restore(&exporters[i], now.Unix())
	}
	s.changes, s.written = t.changes.Load(), now
	return templates, nil
}

// parseStore reads a templates file, all of it or nothing.
func parseStore(content []byte) (exporters []storedExporter, ok bool) {
	end := bytes.LastIndexByte(bytes.TrimSuffix(content, []byte{'\n'}), '\n') + 1
	body, last := content[:end], content[end:]
	var head storedHead
	var tail storedTail
	sum := sha256.Sum256(body)
	if json.Unmarshal(last, &tail) != nil || tail.SHA256 != hex.EncodeToString(sum[:]) {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if dec.Decode(&head) != nil || head.Format != storeFormat {
		return nil, false
	}
	for {
		var se storedExporter
		switch err := dec.Decode(&se); {
		case errors.Is(err, io.EOF):
			return exporters, true
		case err != nil:
			return nil, false
		}
		exporters = append(exporters, se)
	}
}

// stored returns what is kept of an exporter.
func (e *exporter) stored() *storedExporter {
	se := &storedExporter{Address: e.addr, LastSeen: e.lastSeen.Load() / 1e3}
	e.mu.Lock()
	for k, l := range e.templates {
		st := storedTemplate{
			Version: k.version, Domain: k.domain, ID: k.id, Port: l.port, Own: k.port != 0, Refreshed: l.refreshed,
			Options: l.options, Scopes: l.scopes,
		}
		for _, f := range l.fields {
			sf := storedField{uint32(f.Type), uint32(f.Length)}
			if f.PenProvided {
				sf = append(sf, f.Pen)
			}
			st.Fields = append(st.Fields, sf)
		}
		se.Templates = append(se.Templates, st)
	}
	for d, ms := range e.bootTime {
		se.BootTimes = append(se.BootTimes, storedBootTime{d, ms})
	}
	e.mu.Unlock()
	e.samplingMu.RLock()
	defer e.samplingMu.RUnlock()
	for k, rate := range e.sampling {
		se.Sampling = append(se.Sampling, storedSampling{k.version, k.domain, k.sampler, rate})
	}
	return se
}

// restore takes over what was stored of an exporter, as far as it can be
// trusted, and returns how many templates that is. What the file says is
// checked like what the wire says.
func (t *exporters) restore(se *storedExporter, now int64) (templates int) {
	trusted := func(at int64) bool { return at <= now+60 && now-max(at, se.LastSeen) <= int64(storeTrust/time.Second) }
	if !se.Address.IsValid() || !trusted(se.LastSeen) || t.len() >= t.max {
		return 0
	}
	e := t.get(se.Address.Unmap(), se.LastSeen*1e3)
	// Templates that all ports share go first: the others differ from them.
	for _, own := range []bool{false, true} {
		for i := range se.Templates {
			st := &se.Templates[i]
			if st.Own != own || !trusted(st.Refreshed) || st.Scopes < 0 || st.Scopes > len(st.Fields) || st.Version != 9 && st.Version != 10 {
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
				e.addTemplate(tmpl, st.Port, st.Refreshed)
				templates++
			}
		}
	}
	for _, s := range se.Sampling {
		e.setSampling(samplerKey{s.Domain, s.Version, s.Sampler}, s.Rate)
	}
	for _, b := range se.BootTimes {
		e.setBootTime(b.Domain, b.Millis)
	}
	return templates
}

// restoreTemplates reads the templates file at start. One that cannot be used
// is set aside: it is never a reason not to start.
func (c *Collector) restoreTemplates() *store {
	if c.cfg.TemplatesFile == "" {
		return nil
	}
	s := &store{path: c.cfg.TemplatesFile}
	n, err := s.load(c.exporters, time.Now())
	log := c.log.WithField("file", s.path)
	switch {
	case errors.Is(err, errForeign):
		bad := s.path + ".bad"
		if rerr := os.Rename(s.path, bad); rerr != nil {
			err = errors.Join(err, rerr)
		}
		log.WithError(err).Warnf("the templates file cannot be used and is set aside as %s; data waits for new templates", bad)
	case err != nil:
		log.WithError(err).Warn("the templates file cannot be read; data waits for new templates")
	default:
		log.WithField("templates", n).Debug("templates restored")
	}
	return s
}

// keepHouse drops held sets whose time is over and writes the templates file,
// until done is closed; then it writes the file once more.
func (c *Collector) keepHouse(s *store, done <-chan struct{}) {
	tick := time.NewTicker(250 * time.Millisecond) // a first template is kept at once
	defer tick.Stop()
	var logged time.Time
	save := func(now time.Time, force bool) {
		if s == nil {
			return
		}
		if err := s.save(c.exporters, now, force); err != nil && (force || now.Sub(logged) >= ratelog.Interval) {
			logged = now
			c.log.WithError(err).Error("templates are not kept for the next start")
		}
	}
	for {
		select {
		case now := <-tick.C:
			c.exporters.expireHeld(now.UnixNano(), c.own)
			save(now, false)
		case <-done:
			c.exporters.expireHeld(0, c.own)
			save(time.Now(), true)
			return
		}
	}
}
