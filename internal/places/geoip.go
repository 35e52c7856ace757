package places

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// database is one file of -geoip.
type database struct {
	reader *maxminddb.Reader
	// What its records have.
	country, as bool
}

// openDatabase reads a database from a file's content, which it keeps. The file is not
// mapped into memory: who changes a mapped file in place ends the program.
func openDatabase(data []byte) (*database, error) {
	r, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("no database in the format mmdb: %w", err)
	}
	d := &database{reader: r}
	typ := strings.ToLower(r.Metadata.DatabaseType)
	for _, kind := range []string{"country", "city", "enterprise"} {
		d.country = d.country || strings.Contains(typ, kind)
	}
	for _, kind := range []string{"asn", "isp", "enterprise"} {
		d.as = d.as || strings.Contains(typ, kind)
	}
	if !d.country && !d.as {
		return nil, fmt.Errorf("a database of the type %.60q is not known; give one of countries, cities or ASNs", r.Metadata.DatabaseType)
	}
	// A file that was cut shows it at the first look-ups.
	for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if result := r.Lookup(a); result.Err() != nil && (a.Is4() || r.Metadata.IPVersion == 6) {
			return nil, fmt.Errorf("the database is damaged: %w", result.Err())
		}
	}
	return d, nil
}

// none is the offset of an address that a database does not have.
const none = ^uint32(0)

// find returns where the record of an address is, none if there is none.
func (d *database) find(a netip.Addr) uint32 {
	r := d.reader.Lookup(a)
	if !r.Found() || r.Err() != nil {
		return none
	}
	return uint32(r.Offset()) // below maxDatabase
}

// read adds to a place what the record at an offset has. A value that is there already
// stays.
func (d *database) read(offset uint32, p *flow.Place) error {
	r := d.reader.LookupOffset(uintptr(offset))
	var errs []error
	if d.country && p.Country == "" {
		var failed error
		for _, path := range [][]any{{"country", "iso_code"}, {"registered_country", "iso_code"}, {"country_code"}} {
			var code string
			if err := r.DecodePath(&code, path...); err != nil {
				failed = err // of databases of others, which have another value there
			}
			if code != "" {
				p.Country, failed = strings.ToValidUTF8(code, "\uFFFD"), nil
				break
			}
		}
		errs = append(errs, failed)
	}
	if d.as && p.ASNumber == 0 {
		var number uint32
		if err := r.DecodePath(&number, "autonomous_system_number"); err != nil {
			errs = append(errs, err)
		}
		var text string // IPinfo's form
		if number == 0 && r.DecodePath(&text, "asn") == nil {
			if n, err := strconv.ParseUint(strings.TrimPrefix(text, "AS"), 10, 32); err == nil {
				number = uint32(n)
			}
		}
		var name string
		for _, key := range []string{"autonomous_system_organization", "as_name"} {
			if err := r.DecodePath(&name, key); err != nil {
				errs = append(errs, err)
			}
			if name != "" {
				break
			}
		}
		p.ASNumber, p.ASName = number, strings.ToValidUTF8(name, "\uFFFD")
	}
	return errors.Join(errs...)
}
