package collector

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"time"
)

// Templates files of version 1 are read, and written anew in the present format.
const (
	templatesFormat1 = "kube-enricher-templates/1"
	// maxTemplatesFile1 and maxTemplatesLine1 bound the file and the line of one
	// exporter, in bytes.
	maxTemplatesFile1 = 512 << 20
	maxTemplatesLine1 = 32 << 20
)

// A file of version 1 has a line of storedHead, one of storedExporter for each exporter,
// and one of storedTail. All of them are JSON.
type (
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

// load1 reads the table back from a file of version 1.
func (f *templatesFile) load1(file *os.File, info fs.FileInfo, t *exporters, now time.Time) (templates int, err error) {
	if info.Size() > maxTemplatesFile1 {
		return 0, errForeign
	}
	// All of the file is checked before any of it is used.
	if err := f.readTemplates1(file, func(*storedExporter) {}); err != nil {
		return 0, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	err = f.readTemplates1(file, func(se *storedExporter) { templates += t.restore1(se, now.Unix()) })
	return templates, err
}

// readTemplates1 reads a templates file and calls use for each exporter in it. The
// error is errForeign if the file is damaged, which may be found out only at its
// end.
func (f *templatesFile) readTemplates1(r io.Reader, use func(*storedExporter)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxTemplatesLine1)
	sum := sha256.New()
	var head storedHead
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &head) != nil || head.Format != templatesFormat1 {
		return cmp.Or(lines.Err(), errForeign)
	}
	for {
		if f.abandoned.Load() {
			return errAbandoned
		}
		f.progress.Add(1)
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

// restore1 takes over what was stored of an exporter, as far as it can be trusted at
// the given time (Unix seconds), and returns how many templates that is. Templates
// from the file are checked like those from the wire. Nothing is taken over once
// the total budget is used up.
func (t *exporters) restore1(se *storedExporter, now int64) (templates int) {
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
		fields, ok := netflowFields(st.Fields)
		if !ok {
			return templates
		}
		tmpl := newTemplate(templateKey{st.Domain, st.Version, st.ID}, fields[:st.Scopes], fields[st.Scopes:], st.Options)
		if tmpl != nil {
			e.learnTemplate(tmpl, st.Port, max(st.Refreshed, 0))
			templates++
		}
	}
	e.restoreOptions(se)
	for i := range se.Templates {
		e.restoreSession(se.Templates[i].Port, se.LastSeen, now)
	}
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
