package policy

import (
	"context"
	"fmt"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/internal/ovsdb"
)

// Reached says whether a database can be read. A file was read by [Policies.Load].
type Reached struct {
	Name   string // such as OVN_Northbound
	Where  string // the remote or the file
	Tables []string
	Err    error // names the flag, and says what to do
}

// String says what was found.
func (r *Reached) String() string {
	if r.Err != nil {
		return r.Err.Error()
	}
	if len(r.Tables) == 0 {
		return r.Where
	}
	return r.Where + ": tables " + strings.Join(r.Tables, ", ")
}

// Probe asks each database for its tables, until ctx ends.
func (p *Policies) Probe(ctx context.Context) (all []Reached) {
	for _, s := range p.sources() {
		r := Reached{Name: s.database, Where: s.from}
		if ovsdb.IsRemote(s.from) {
			remotes, err := ovsdb.ParseRemotes(s.from)
			if err == nil {
				var remote ovsdb.Remote
				remote, r.Tables, err = ovsdb.Probe(ctx, ovsdb.Config{Remotes: remotes, Keys: p.cfg.Keys, Database: s.database, Tables: s.tables})
				r.Where = remote.String()
			}
			if err != nil {
				r.Err = fmt.Errorf("%s: %w", s.flag, err)
			}
		}
		all = append(all, r)
	}
	return all
}
