package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/enrich"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/internal/flowtest"
	"github.com/netobserv/goflow2-kube-enricher/internal/hugepages"
	"github.com/netobserv/goflow2-kube-enricher/internal/places"
	"github.com/netobserv/goflow2-kube-enricher/internal/traffic"
)

// outsideAddresses is how many addresses of places the flows of BenchmarkPlaces go to.
const outsideAddresses = 10_000

// outsidePlaces makes files of 10,000 networks with 500 labels, and of their countries and
// autonomous systems.
func outsidePlaces(b *testing.B) places.Config {
	b.Helper()
	dir := b.TempDir()
	write := func(name string, content func(*os.File) error) string {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		if err := content(f); err != nil {
			b.Fatal(err)
		}
		return f.Name()
	}
	database := func(kind string, record func(i int) mmdbtype.Map) string {
		tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: kind, RecordSize: 24})
		if err != nil {
			b.Fatal(err)
		}
		for i := range 1 + outsideAddresses/256 {
			n := &net.IPNet{IP: net.IPv4(1, byte(i), 0, 0).To4(), Mask: net.CIDRMask(16, 32)}
			if err := tree.Insert(n, record(i)); err != nil {
				b.Fatal(err)
			}
		}
		return write(kind, func(f *os.File) error { _, err := tree.WriteTo(f); return err })
	}
	return places.Config{
		Mapping: benchMapping(b),
		Networks: write("networks.yaml", func(f *os.File) error {
			for i := range outsideAddresses {
				if _, err := fmt.Fprintf(f, "1.%d.%d.0/24: label-%d\n", i/256, i%256, i/20); err != nil {
					return err
				}
			}
			return nil
		}),
		GeoIP: []string{
			database("Country", func(i int) mmdbtype.Map {
				return mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String([]byte{'A' + byte(i/26), 'A' + byte(i%26)})}}
			}),
			database("ASN", func(i int) mmdbtype.Map {
				return mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64_500 + i), "autonomous_system_organization": mmdbtype.String(fmt.Sprintf("AS %d", i))}
			}),
		},
	}
}

// BenchmarkPlaces has flows from all pods to addresses of places. A pipeline with the files of
// places and one without take turns; both would write the fields. Compared is CPU time, which
// depends less on what else the machine does.
func BenchmarkPlaces(b *testing.B) {
	names := newNames(b, benchPods)
	log := logrus.New()
	log.SetOutput(io.Discard)
	lookup, err := places.New(outsidePlaces(b), log, prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	for _, every := range []int{1, 5} {
		for _, counted := range []bool{false, true} {
			b.Run(fmt.Sprintf("one-in-%d,traffic=%v", every, counted), func(b *testing.B) {
				pipelines := [2]*pipeline{newPlacesPipeline(b, names, nil, counted), newPlacesPipeline(b, names, lookup, counted)}
				datagrams := outsideDatagrams(every)
				turn := func(p *pipeline) {
					for _, d := range datagrams {
						p.decoder.Datagram(benchSource, collector.AnyFlow, d, benchTime)
					}
				}
				for _, p := range pipelines {
					turn(p)
					p.records = 0
				}
				hugepages.Once()
				var took [2][]float64 // nanoseconds a record
				for b.Loop() {
					for i, p := range pipelines {
						before, records := flowtest.CPUTime(b), p.records
						turn(p)
						took[i] = append(took[i], float64(flowtest.CPUTime(b)-before)/float64(p.records-records))
					}
				}
				without, with := middle(took[0]), middle(took[1])
				b.ReportMetric(without, "without-ns/record")
				b.ReportMetric(with, "with-ns/record")
				b.ReportMetric(with/without, "times")
			})
		}
	}
}

// middle returns the median.
func middle(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// newPlacesPipeline makes a pipeline that writes the fields of places in JSON; without a lookup
// they are empty.
func newPlacesPipeline(b *testing.B, names *enrich.Enricher, lookup *places.Lookup, counted bool) *pipeline {
	b.Helper()
	fields := "default"
	for _, end := range []string{"Src", "Dst"} {
		for _, field := range []string{"SubnetLabel", "Country", "ASName"} {
			fields += ",+" + end + field
		}
	}
	p := new(pipeline)
	var err error
	if p.enc, err = encode.NewJSON(encode.JSONConfig{Schema: "v1", Fields: fields, Mapping: benchMapping(b)}); err != nil {
		b.Fatal(err)
	}
	var next flow.Handler = p
	if counted {
		counter, err := traffic.New(traffic.Config{Mapping: benchMapping(b), MaxSeries: 5000}, prometheus.NewRegistry())
		if err != nil {
			b.Fatal(err)
		}
		next = counter.NewStage(next)
	}
	if lookup != nil {
		next = lookup.NewStage(next)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	c, err := collector.New(collector.Config{}, nil, log, prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	p.decoder = c.NewDecoder(names.NewStage(next))
	template, _ := benchMessages("ipfix", 0, 1, benchPods)
	p.decoder.Datagram(benchSource, collector.AnyFlow, template, benchTime)
	return p
}

// outsideDatagrams returns datagrams of a flow of each pod. One in so many goes to an address of a
// place, each the first one of a network.
func outsideDatagrams(every int) (datagrams [][]byte) {
	const records = 25
	size, dst := 0, 0
	for _, f := range ovsTemplate {
		if f[0] == 12 {
			dst = size
		}
		size += int(f[1])
	}
	for first := 0; first < benchPods; first += records {
		_, d := benchMessages("ipfix", first, records, benchPods)
		for i := first; i < first+records; i++ {
			if i%every == 0 {
				n := i / every * 7 % outsideAddresses
				copy(d[20+(i-first)*size+dst:], []byte{1, byte(n >> 8), byte(n), 1})
			}
		}
		datagrams = append(datagrams, d)
	}
	return datagrams
}
