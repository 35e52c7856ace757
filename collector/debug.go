package collector

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
)

// WriteTemplates writes the known templates in the form of goflow2's /templates:
// a JSON object by exporter, then by goflow2's template key. Any goroutine may call
// it.
func (c *Collector) WriteTemplates(w io.Writer) error {
	all := make(map[string]netflow.FlowBaseTemplateSet)
	for _, e := range c.exporters.list() {
		e.mu.Lock()
		for k, l := range e.allTemplates() {
			source := netip.AddrPortFrom(e.addr, k.port).String()
			if all[source] == nil {
				all[source] = make(netflow.FlowBaseTemplateSet)
			}
			key := uint64(k.version)<<48 | uint64(k.domain)<<16 | uint64(k.id)
			all[source][key] = (&template{k.templateKey, l.shape}).goflow2()
		}
		e.mu.Unlock()
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(all); err != nil {
		return fmt.Errorf("write templates: %w", err)
	}
	return nil
}

// exporterInfo is what /exporters shows of one exporter.
type exporterInfo struct {
	Exporter     netip.Addr `json:"exporter"`
	LastSeen     time.Time  `json:"lastSeen"`
	Templates    int        `json:"templates"`
	SetsHeld     int64      `json:"setsHeld"`     // data sets that wait for a template
	SequenceLost uint64     `json:"sequenceLost"` // records or datagrams, as its protocol counts
	Sampling     []rateInfo `json:"sampling,omitempty"`

	exporter *exporter
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
	infos := []exporterInfo{}
	for _, e := range c.exporters.list() {
		e.mu.Lock()
		templates := e.countTemplates()
		e.mu.Unlock()
		infos = append(infos, exporterInfo{e.addr, time.UnixMilli(e.lastSeen.Load()).UTC(), templates, e.numHeld.Load(), e.sequenceLost.Load(), nil, e})
	}
	slices.SortFunc(infos, func(a, b exporterInfo) int {
		return cmp.Or(cmp.Compare(b.SequenceLost, a.SequenceLost), a.Exporter.Compare(b.Exporter))
	})
	// One at a time: an exporter may have announced many rates.
	before := "[\n  "
	for _, info := range infos {
		info.Sampling = info.exporter.sampling()
		b, err := json.MarshalIndent(info, "  ", "  ")
		if err == nil {
			_, err = fmt.Fprintf(w, "%s%s", before, b)
		}
		if err != nil {
			return fmt.Errorf("write exporters: %w", err)
		}
		before = ",\n  "
	}
	end := "\n]\n"
	if len(infos) == 0 {
		end = "[]\n"
	}
	if _, err := io.WriteString(w, end); err != nil {
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
