//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// outside is how many addresses beyond the cluster flows go to, and how many networks these
// are in.
const outside = 10_000

// places measures what names beyond the cluster cost: our program with -networks and -geoip
// against our program without, if one flow in every so many leaves the cluster. Both would write
// the fields.
func places(most float64, every int) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		files, err := b.placeFiles()
		if err != nil {
			return result{}, err
		}
		fields := []string{"-fields", "default,+SrcSubnetLabel,+DstSubnetLabel,+SrcCountry,+DstCountry,+SrcASName,+DstASName"}
		l := load{protocol: "ipfix", records: 25, rate: 50_000, seconds: b.seconds, pods: b.pods, outside: outside, outsideEvery: every}
		return b.pairs(ctx, most, func() (float64, error) {
			return b.cost(ctx, enricher("json", b.pods, append(fields, files...)...), l)
		}, func() (float64, error) { return b.cost(ctx, enricher("json", b.pods, fields...), l) })
	}
}

// placeFiles writes the files that name the addresses, and returns the arguments with them.
func (b *bench) placeFiles() ([]string, error) {
	var networks strings.Builder
	for i := range outside {
		fmt.Fprintf(&networks, "1.%d.%d.0/24: label-%d\n", i/256, i%256, i/20)
	}
	country := map[string]mmdbtype.DataType{}
	as := map[string]mmdbtype.DataType{}
	for i := range 1 + outside/256 {
		network := fmt.Sprintf("1.%d.0.0/16", i)
		country[network] = mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(fmt.Sprintf("%c%c", 'A'+i/26, 'A'+i%26))}}
		as[network] = mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64_500 + i), "autonomous_system_organization": mmdbtype.String(fmt.Sprintf("AS %d", i))}
	}
	paths := make([]string, 3)
	for i, content := range []func() ([]byte, error){
		func() ([]byte, error) { return []byte(networks.String()), nil },
		func() ([]byte, error) { return database("GeoLite2-Country", country) },
		func() ([]byte, error) { return database("GeoLite2-ASN", as) },
	} {
		text, err := content()
		if err != nil {
			return nil, err
		}
		paths[i] = filepath.Join(b.dir, fmt.Sprintf("places-%d.yaml", i))
		if err := os.WriteFile(paths[i], text, 0o600); err != nil {
			return nil, err
		}
	}
	return []string{"-networks", paths[0], "-geoip", paths[1] + "," + paths[2]}, nil
}

// database returns an mmdb file.
func database(kind string, networks map[string]mmdbtype.DataType) ([]byte, error) {
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: kind, RecordSize: 24})
	if err != nil {
		return nil, err
	}
	for cidr, value := range networks {
		_, network, err := net.ParseCIDR(cidr)
		if err != nil {
			return nil, err
		}
		if err := tree.Insert(network, value); err != nil {
			return nil, err
		}
	}
	var file bytes.Buffer
	_, err = tree.WriteTo(&file)
	return file.Bytes(), err
}
