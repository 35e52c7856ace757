package collector

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
)

// WriteTemplates writes the known templates in the form of goflow2's /templates:
// a JSON object by exporter, then by goflow2's template key. It writes them one by one,
// and holds no more in memory than the list of one port's. Any goroutine may call it.
func (c *Collector) WriteTemplates(w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<16)
	o := objectWriter{w: out}
	exporters := c.exporters.list()
	slices.SortFunc(exporters, func(a, b *exporter) int { return a.addr.Compare(b.addr) })
	for _, e := range exporters {
		e.writeTemplates(&o)
	}
	o.end()
	if o.err == nil {
		o.err = out.Flush()
	}
	if o.err != nil {
		return fmt.Errorf("write templates: %w", o.err)
	}
	return nil
}

// writeTemplates writes a member for each port of the exporter that has sent templates.
func (e *exporter) writeTemplates(o *objectWriter) {
	type entry struct {
		templateKey
		shape *shape
	}
	key := func(t *entry) uint64 { return uint64(t.version)<<48 | uint64(t.domain)<<16 | uint64(t.id) }
	var templates []entry
	for _, port := range e.ports() {
		templates = templates[:0]
		e.mu.RLock()
		if s := e.session(port); s != nil {
			for k, l := range s.templates.all() {
				templates = append(templates, entry{k, l.shape})
			}
		}
		e.mu.RUnlock()
		if len(templates) == 0 {
			continue
		}
		slices.SortFunc(templates, func(a, b entry) int { return cmp.Compare(key(&a), key(&b)) })
		o.begin(netip.AddrPortFrom(e.addr, port).String())
		for i := range templates {
			t := &templates[i]
			o.member(strconv.FormatUint(key(t), 10), (&template{t.templateKey, t.shape}).goflow2())
		}
		o.end()
	}
}

// objectWriter writes nested JSON objects member by member, with the indents of
// [json.Encoder]. After an error it writes nothing.
type objectWriter struct {
	w      io.Writer
	indent string
	empty  bool // the object at hand has no member yet
	opened bool // the outermost one was begun
	err    error
}

func (o *objectWriter) write(parts ...string) {
	for _, s := range parts {
		if o.err == nil {
			_, o.err = io.WriteString(o.w, s)
		}
	}
}

// key begins a member of the object at hand.
func (o *objectWriter) key(name string) {
	before := ",\n"
	switch {
	case !o.opened:
		o.opened, o.indent, before = true, "  ", "{\n"
	case o.empty:
		before = "\n"
	}
	o.empty = false
	o.write(before, o.indent, strconv.Quote(name), ": ")
}

// begin begins a member that is an object.
func (o *objectWriter) begin(name string) {
	o.key(name)
	o.write("{")
	o.indent += "  "
	o.empty = true
}

// member writes a member of the object at hand.
func (o *objectWriter) member(name string, value any) {
	if o.err != nil {
		return
	}
	o.key(name)
	b, err := json.MarshalIndent(value, o.indent, "  ")
	if err != nil {
		o.err = err
	}
	o.write(string(b))
}

// end ends the object at hand.
func (o *objectWriter) end() {
	switch {
	case !o.opened:
		o.write("{}\n")
	case len(o.indent) == 2:
		o.write("\n}\n")
	default:
		o.indent = o.indent[2:]
		o.write("\n", o.indent, "}")
	}
}

// exporterInfo is what /exporters shows of one exporter.
type exporterInfo struct {
	Exporter     netip.Addr `json:"exporter"`
	LastSeen     time.Time  `json:"last_seen"`
	Templates    int        `json:"templates"`
	SetsHeld     int64      `json:"sets_held"`     // data sets that wait for a template
	SequenceLost uint64     `json:"sequence_lost"` // records or datagrams, as its protocol counts
	Sampling     []rateInfo `json:"sampling,omitempty"`
}

// info returns what /exporters shows of the exporter, which has lost so much.
func (e *exporter) info(lost uint64) exporterInfo {
	e.mu.RLock()
	templates := e.countTemplates()
	e.mu.RUnlock()
	return exporterInfo{e.addr, time.UnixMilli(e.lastSeen.Load()).UTC(), templates, e.numHeld.Load(), lost, e.sampling()}
}

// rateInfo is what /exporters shows of a sampling rate that options data announced.
type rateInfo struct {
	Port      uint16    `json:"port"` // who announced it
	Version   uint16    `json:"version"`
	Domain    uint32    `json:"domain"`
	For       string    `json:"for"`
	ID        uint64    `json:"id,omitempty"` // of what it is for
	Rate      uint64    `json:"rate"`         // one in how many packets; 0: packets are not sampled
	Announced time.Time `json:"announced"`    // last
}

// sampling returns the sampling rates that were announced, ordered.
func (e *exporter) sampling() []rateInfo {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var infos []rateInfo
	for k, v := range e.rates.values.all() {
		infos = append(infos, rateInfo{k.port, k.version, k.domain, optionKindNames[k.kind], k.id, v.value, time.Unix(int64(v.announced), 0).UTC()})
	}
	slices.SortFunc(infos, func(a, b rateInfo) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Domain, b.Domain),
			cmp.Compare(a.For, b.For), cmp.Compare(a.ID, b.ID))
	})
	return infos
}

// WriteExporters writes the known exporters as a JSON array, the one that lost
// most first. Any goroutine may call it.
func (c *Collector) WriteExporters(w io.Writer) error {
	type ranked struct {
		*exporter
		lost uint64
	}
	var exporters []ranked
	for _, e := range c.exporters.list() {
		exporters = append(exporters, ranked{e, e.sequenceLost.Load()})
	}
	slices.SortFunc(exporters, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.lost, a.lost), a.addr.Compare(b.addr))
	})
	// One at a time: there may be many, and one may have announced many rates.
	out := bufio.NewWriterSize(w, 1<<16)
	before := "[\n  "
	for _, e := range exporters {
		b, err := json.MarshalIndent(e.info(e.lost), "  ", "  ")
		if err == nil {
			_, err = fmt.Fprintf(out, "%s%s", before, b)
		}
		if err != nil {
			return fmt.Errorf("write exporters: %w", err)
		}
		before = ",\n  "
	}
	end := "\n]\n"
	if len(exporters) == 0 {
		end = "[]\n"
	}
	_, _ = out.WriteString(end) // Flush returns its error
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write exporters: %w", err)
	}
	return nil
}

// goflow2 returns the template in the type that goflow2 keeps it in.
func (t *template) goflow2() any {
	scopes, options := t.fields[:t.scopes], t.fields[t.scopes:]
	switch {
	case !t.options:
		return netflow.TemplateRecord{TemplateId: t.key.id, FieldCount: uint16(len(t.fields)), Fields: t.fields}
	case t.key.version == 9:
		return netflow.NFv9OptionsTemplateRecord{
			TemplateId: t.key.id, ScopeLength: uint16(4 * len(scopes)), OptionLength: uint16(4 * len(options)),
			Scopes: scopes, Options: options,
		}
	default:
		return netflow.IPFIXOptionsTemplateRecord{
			TemplateId: t.key.id, FieldCount: uint16(len(t.fields)), ScopeFieldCount: uint16(len(scopes)),
			Scopes: scopes, Options: options,
		}
	}
}
