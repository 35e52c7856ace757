package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/transport"
)

var update = flag.Bool("update", false, "write generated documentation anew")

func TestParseDefaults(t *testing.T) {
	c, err := Parse(nil, []string{"HOME=/root", "KUBECONFIG=/root/config"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if c.Mode != Collect || c.Files != nil || c.StdinImplied {
		t.Errorf("mode %v, files %q, stdinImplied %v", c.Mode, c.Files, c.StdinImplied)
	}
	if len(c.Listen) != 2 || c.Listen[0].Protocols != collector.NetFlow || c.Listen[0].Port != 2055 || c.Listen[1].Protocols != collector.SFlow || c.Listen[1].Port != 6343 {
		t.Errorf("listen %+v", c.Listen)
	}
	if len(c.Mapping) != 2 || c.Mapping[0] != (flow.MapEntry{Field: flow.FieldSrcAddr, Prefix: "Src", Snake: "src"}) || c.Mapping[1] != (flow.MapEntry{Field: flow.FieldDstAddr, Prefix: "Dst", Snake: "dst"}) {
		t.Errorf("mapping %+v", c.Mapping)
	}
	if k := kafkaOf(c); strings.Join(k.Brokers, " ") != "127.0.0.1:9092 [::1]:9092" || k.Topic != "flow-messages" || k.MaxMsgBytes != 1000000 || k.FlushBytes != 100<<20 ||
		k.FlushFrequency != 5*time.Second || k.BufferBytes != 64<<20 || k.UseTLS || k.TLS.Insecure || k.SASL != "none" || k.Compression != "none" {
		t.Errorf("kafka %+v", k)
	}
	if k := kafkaOf(c); k.key != "SrcAddr,DstAddr" || !k.hashing {
		t.Errorf("kafka %+v", k)
	}
	c.Listen, c.Mapping, c.types = nil, nil, nil
	want := Config{
		Input: "auto", Schema: "v1", Fields: "default",
		transports: []Output{{"file", ""}}, formats: []Output{{"", "json"}}, Outputs: []Output{{"file", "json"}},
		TemplatesHold: 15 * time.Minute, TemplatesHoldSize: 8 << 20, DrainTimeout: 10 * time.Second,
		KubeSyncTimeout: time.Minute, KubeRetain: 20 * time.Minute, KubeWait: 2 * time.Second, Addr: ":8080", Recent: 64 << 20, MetricsWorkloads: 5000, LogLevel: logrus.InfoLevel,
		JoinSubnets: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/16"), netip.MustParsePrefix("fd98::/64")},
		Summary:     true, HugePages: true,
	}
	if !reflect.DeepEqual(*c, want) {
		t.Errorf("got  %+v\nwant %+v", *c, want)
	}
}

// kafkaOf and fileOf return the settings of an output.
func kafkaOf(c *Config) *kafkaOutput { return outputOf[*kafkaOutput](c) }
func fileOf(c *Config) *fileOutput   { return outputOf[*fileOutput](c) }
func httpOf(c *Config) *httpOutput   { return outputOf[*httpOutput](c) }
func otlpOf(c *Config) *otlpOutput   { return outputOf[*otlpOutput](c) }

func outputOf[T outputType](c *Config) (o T) {
	for _, t := range c.types {
		if found, ok := t.(T); ok {
			o = found
		}
	}
	return o
}

// TestParseEverywhere gives each flag another value than its default, in each
// of the three places.
func TestParseEverywhere(t *testing.T) {
	tests := map[string]struct {
		value string
		files []string
		got   func(*Config) bool
	}{
		"listen": {"flow://:9999?count=2", nil, func(c *Config) bool {
			return len(c.Listen) == 1 && c.Listen[0].Port == 9999 && c.Listen[0].Sockets == 2
		}},
		"input": {"protobuf", []string{"-"}, func(c *Config) bool { return c.Input == "protobuf" }},
		"allow": {"10.0.0.0/8, ::ffff:192.0.2.0/120,fd00::1", nil, func(c *Config) bool {
			return fmt.Sprint(c.Allow) == "[10.0.0.0/8 192.0.2.0/24 fd00::1/128]"
		}},
		"sampling": {"10.0.0.0/8=400,192.0.2.1=5", nil, func(c *Config) bool {
			return fmt.Sprint(c.Sampling) == "[{10.0.0.0/8 400} {192.0.2.1/32 5}]"
		}},
		"templates.file":      {"/tmp/templates", nil, func(c *Config) bool { return c.TemplatesFile == "/tmp/templates" }},
		"templates.hold":      {"1m", nil, func(c *Config) bool { return c.TemplatesHold == time.Minute }},
		"templates.hold-size": {"3MiB", nil, func(c *Config) bool { return c.TemplatesHoldSize == 3<<20 }},
		"drain-timeout":       {"3s", nil, func(c *Config) bool { return c.DrainTimeout == 3*time.Second }},
		"mapping":             {"next_hop=Nxt", nil, func(c *Config) bool { return len(c.Mapping) == 1 && c.Mapping[0].Prefix == "Nxt" }},
		"schema":              {"v1", nil, func(c *Config) bool { return c.Schema == "v1" }},
		"fields":              {"default,+TimeFlowStartNs,-SrcMac", nil, func(c *Config) bool { return c.Fields == "default,+TimeFlowStartNs,-SrcMac" }},
		"fields.elements": {"testdata/elements.yaml", nil, func(c *Config) bool {
			return fmt.Sprint(c.Elements) == "[IE 40000 10704/4]" && c.Elements[1].Name == "FwRule"
		}},
		"format":         {"bin", nil, func(c *Config) bool { return fmt.Sprint(c.Outputs) == "[{file protobuf}]" }},
		"cluster":        {"züri \"1\"", nil, func(c *Config) bool { return c.Cluster == "züri \"1\"" }},
		"check.live":     {"true", nil, func(c *Config) bool { return c.CheckLive }},
		"check.ready":    {"http://[::1]:8080", nil, func(c *Config) bool { return c.CheckReady == "http://[::1]:8080/readyz" }},
		"summary":        {"false", nil, func(c *Config) bool { return !c.Summary }},
		"n":              {"prod", nil, func(c *Config) bool { return c.Filter != nil && len(c.Filter.Attrs()) == 2 }},
		"pod":            {"prod/a", nil, func(c *Config) bool { return c.Filter != nil && len(c.Filter.Attrs()) == 4 }},
		"port":           {"443", nil, func(c *Config) bool { return c.Filter != nil && len(c.Filter.Fields()) == 2 }},
		"ip":             {"fd00::/8", nil, func(c *Config) bool { return c.Filter != nil && len(c.Filter.Fields()) == 2 }},
		"filter":         {`SrcNamespace == "prod" && Bytes > 1`, nil, func(c *Config) bool { return c.Filter != nil && len(c.Filter.Fields()) == 1 }},
		"transport":      {"kafka:pb,file", nil, func(c *Config) bool { return fmt.Sprint(c.Outputs) == "[{kafka protobuf} {file json}]" }},
		"transport.file": {"/tmp/out.json", nil, func(c *Config) bool { return fileOf(c).path == "/tmp/out.json" }},

		"transport.http.url": {"https://u:p@db:8443/?query=INSERT%20INTO%20t", nil, func(c *Config) bool {
			return httpOf(c).URL.Host == "db:8443" && httpOf(c).URL.RawQuery == "query=INSERT%20INTO%20t"
		}},
		"transport.http.headers":      {"X-Scope-OrgID=a,Authorization=Bearer ${KAFKA_SASL_PASS}", nil, func(c *Config) bool { return len(httpOf(c).Headers) == 2 }},
		"transport.http.content-type": {"text/plain", nil, func(c *Config) bool { return httpOf(c).ContentType == "text/plain" }},
		"transport.http.compression":  {"zstd", nil, func(c *Config) bool { return httpOf(c).Compression == "zstd" }},
		"transport.http.batch":        {"2MiB", nil, func(c *Config) bool { return httpOf(c).BatchBytes == 2<<20 }},
		"transport.http.flush":        {"200ms", nil, func(c *Config) bool { return httpOf(c).Flush == 200*time.Millisecond }},
		"transport.http.timeout":      {"3s", nil, func(c *Config) bool { return httpOf(c).Timeout == 3*time.Second }},
		"transport.http.retry":        {"true", nil, func(c *Config) bool { return httpOf(c).Retry }},
		"transport.http.buffer":       {"1GiB", nil, func(c *Config) bool { return httpOf(c).BufferBytes == 1<<30 }},
		"transport.http.tls.ca":       {"/ca", nil, func(c *Config) bool { return httpOf(c).TLS.CA == "/ca" }},
		"transport.http.tls.cert":     {"/cert", nil, func(c *Config) bool { return httpOf(c).TLS.Cert == "/cert" }},
		"transport.http.tls.key":      {"/key", nil, func(c *Config) bool { return httpOf(c).TLS.Key == "/key" }},
		"transport.http.tls.insecure": {"true", nil, func(c *Config) bool { return httpOf(c).TLS.Insecure }},
		"transport.otlp.endpoint":     {"c:4317", nil, func(c *Config) bool { return otlpOf(c).Address == "c:4317" }},
		"transport.otlp.protocol":     {"http", nil, func(c *Config) bool { return otlpOf(c).URL.String() == "https://localhost:4318/v1/logs" }},
		"transport.otlp.headers":      {"X-Scope-OrgID=a,Authorization=Bearer ${KAFKA_SASL_PASS}", nil, func(c *Config) bool { return len(otlpOf(c).Headers) == 2 }},
		"transport.otlp.compression":  {"gzip", nil, func(c *Config) bool { return otlpOf(c).Compression == "gzip" }},
		"transport.otlp.timeout":      {"3s", nil, func(c *Config) bool { return otlpOf(c).Timeout == 3*time.Second }},
		"transport.otlp.buffer":       {"1GiB", nil, func(c *Config) bool { return otlpOf(c).BufferBytes == 1<<30 }},
		"transport.otlp.tls":          {"true", nil, func(c *Config) bool { return otlpOf(c).UseTLS }},
		"transport.otlp.tls.ca":       {"/ca", nil, func(c *Config) bool { return otlpOf(c).TLS.CA == "/ca" }},
		"transport.otlp.tls.cert":     {"/cert", nil, func(c *Config) bool { return otlpOf(c).TLS.Cert == "/cert" }},
		"transport.otlp.tls.key":      {"/key", nil, func(c *Config) bool { return otlpOf(c).TLS.Key == "/key" }},
		"transport.otlp.tls.insecure": {"true", nil, func(c *Config) bool { return otlpOf(c).TLS.Insecure }},
		"transport.kafka.brokers": {"kafka-0,kafka-1:9093, [fd00::1]:9094", nil, func(c *Config) bool {
			return fmt.Sprint(kafkaOf(c).Brokers) == "[kafka-0:9092 kafka-1:9093 [fd00::1]:9094]"
		}},
		"transport.kafka.srv":          {"_kafka._tcp.example.org", nil, func(c *Config) bool { return kafkaOf(c).SRV == "_kafka._tcp.example.org" }},
		"transport.kafka.topic":        {"a.b-c_1", nil, func(c *Config) bool { return kafkaOf(c).Topic == "a.b-c_1" }},
		"transport.kafka.key":          {"SrcNamespace, dst_namespace,Proto", nil, func(c *Config) bool { return kafkaOf(c).Key != nil && kafkaOf(c).key != encode.DefaultKey }},
		"transport.kafka.hashing":      {"false", nil, func(c *Config) bool { return kafkaOf(c).Spread != kafkaOf(c).hashing }},
		"transport.kafka.compression":  {"ZSTD", nil, func(c *Config) bool { return kafkaOf(c).Compression == "zstd" }},
		"transport.kafka.buffer":       {"3MiB", nil, func(c *Config) bool { return kafkaOf(c).BufferBytes == 3<<20 }},
		"transport.kafka.flushfreq":    {"0s", nil, func(c *Config) bool { return kafkaOf(c).FlushFrequency < 0 }},
		"transport.kafka.flushbytes":   {"1", nil, func(c *Config) bool { return kafkaOf(c).FlushBytes == 1 }},
		"transport.kafka.maxmsgbytes":  {"2000000", nil, func(c *Config) bool { return kafkaOf(c).MaxMsgBytes == 2e6 }},
		"transport.kafka.tls":          {"true", nil, func(c *Config) bool { return kafkaOf(c).UseTLS }},
		"transport.kafka.tls.ca":       {"/ca", nil, func(c *Config) bool { return kafkaOf(c).TLS.CA == "/ca" }},
		"transport.kafka.tls.client":   {"/cert", nil, func(c *Config) bool { return kafkaOf(c).TLS.Cert == "/cert" }},
		"transport.kafka.tls.key":      {"/key", nil, func(c *Config) bool { return kafkaOf(c).TLS.Key == "/key" }},
		"transport.kafka.tls.insecure": {"true", nil, func(c *Config) bool { return kafkaOf(c).TLS.Insecure }},
		"transport.kafka.sasl": {"scram-sha512", nil, func(c *Config) bool {
			return kafkaOf(c).SASL == "scram-sha512" && kafkaOf(c).User == "u" && kafkaOf(c).Password == "p=1"
		}},

		"kubeconfig":           {"/k", nil, func(c *Config) bool { return c.Kubeconfig == "/k" }},
		"kube.snapshot":        {"/s", nil, func(c *Config) bool { return c.KubeSnapshot == "/s" }},
		"kube.off":             {"true", nil, func(c *Config) bool { return c.KubeOff }},
		"kube.retain":          {"1h", nil, func(c *Config) bool { return c.KubeRetain == time.Hour }},
		"kube.wait":            {"500ms", nil, func(c *Config) bool { return c.KubeWait == 500*time.Millisecond }},
		"kube.namespaces":      {"shop, web-1", nil, func(c *Config) bool { return fmt.Sprint(c.KubeNamespaces) == "[shop web-1]" }},
		"kube.owners":          {"virtualmachines.kubevirt.io", nil, func(c *Config) bool { return c.KubeOwners == "virtualmachines.kubevirt.io" }},
		"ovn.join-subnets":     {"10.3.0.0/16,fd03::/64", nil, func(c *Config) bool { return fmt.Sprint(c.JoinSubnets) == "[10.3.0.0/16 fd03::/64]" }},
		"ovn.nb":               {"unix:/run/ovn/ovnnb_db.sock", nil, func(c *Config) bool { return c.OVN.On() && c.OVN.Northbound == "unix:/run/ovn/ovnnb_db.sock" }},
		"ovn.sb":               {"/flows.json", nil, func(c *Config) bool { return c.OVN.On() && c.OVN.Southbound == "/flows.json" }},
		"ovn.tls.cert":         {"/cert", nil, func(c *Config) bool { return c.OVN.Keys.Cert == "/cert" }},
		"ovn.tls.key":          {"/key", nil, func(c *Config) bool { return c.OVN.Keys.Key == "/key" }},
		"ovn.tls.ca":           {"/cert", nil, func(c *Config) bool { return c.OVN.Keys.CA == "/cert" }},
		"kube.labels":          {"a.b/c-d=App,tier=Tier", nil, func(c *Config) bool { return len(c.KubeLabels) == 2 && c.KubeLabels[1].Name == "tier" }},
		"kube.sync-timeout":    {"1m30s", nil, func(c *Config) bool { return c.KubeSyncTimeout == 90*time.Second }},
		"addr":                 {"[::1]:9090", nil, func(c *Config) bool { return c.Addr == "[::1]:9090" }},
		"debug.addr":           {"127.0.0.1:8081", nil, func(c *Config) bool { return c.DebugAddr == "127.0.0.1:8081" }},
		"ui.addr":              {"127.0.0.1:8082", nil, func(c *Config) bool { return c.UIAddr == "127.0.0.1:8082" && c.KeepsRecent() }},
		"recent":               {"128MiB", nil, func(c *Config) bool { return c.Recent == 128<<20 }},
		"hubble.addr":          {"127.0.0.1:4244", nil, func(c *Config) bool { return c.Hubble.Addr == "127.0.0.1:4244" && c.KeepsRecent() }},
		"hubble.tls.cert":      {"/cert", nil, func(c *Config) bool { return c.Hubble.Cert == "/cert" }},
		"hubble.tls.key":       {"/key", nil, func(c *Config) bool { return c.Hubble.Key == "/key" }},
		"hubble.tls.client-ca": {"/ca", nil, func(c *Config) bool { return c.Hubble.ClientCA == "/ca" }},
		"metrics.zones":        {"true", nil, func(c *Config) bool { return c.MetricsZones }},
		"networks":             {"/networks.yaml", nil, func(c *Config) bool { return c.Networks == "/networks.yaml" }},
		"geoip":                {"/a.mmdb,/b.mmdb", nil, func(c *Config) bool { return slices.Equal(c.GeoIP, []string{"/a.mmdb", "/b.mmdb"}) }},
		"metrics.workloads":    {"20000", nil, func(c *Config) bool { return c.MetricsWorkloads == 20000 }},
		"huge-pages":           {"false", nil, func(c *Config) bool { return !c.HugePages }},
		"loglevel":             {"Trace", nil, func(c *Config) bool { return c.LogLevel == logrus.TraceLevel }},
		"logfmt":               {"json", nil, func(c *Config) bool { return c.LogJSON }},
		"check":                {"true", nil, func(c *Config) bool { return c.CheckOnly }},
		"v":                    {"true", nil, func(c *Config) bool { return c.ShowVersion }},
		"config":               {"", nil, func(c *Config) bool { return c.ConfigFile == "" }},
	}
	for _, o := range options(outputTypes()) {
		tt, ok := tests[o.name]
		if !ok {
			t.Errorf("-%s is not tested", o.name)
			continue
		}
		if o.name == "config" {
			continue // TestParsePrecedence
		}
		// What else a flag is of no use without.
		var needed []string
		if strings.HasPrefix(o.name, kafkaFlags) {
			needed = append(needed, "-transport", "kafka")
		}
		switch strings.TrimPrefix(o.name, kafkaFlags) {
		case "tls.client":
			needed = append(needed, "-transport.kafka.tls", "-transport.kafka.tls.key", "/key")
		case "tls.key":
			needed = append(needed, "-transport.kafka.tls", "-transport.kafka.tls.client", "/cert")
		case "tls.ca", "tls.insecure":
			needed = append(needed, "-transport.kafka.tls")
		case "check.live", "check.ready":
			needed = append(needed, "-check")
		case "ovn.tls.ca":
			needed = append(needed, "-ovn.nb", "ssl:nb:6641")
		case "ovn.tls.cert":
			needed = append(needed, "-ovn.nb", "ssl:nb:6641", "-ovn.tls.ca", "/ca", "-ovn.tls.key", "/key")
		case "ovn.tls.key":
			needed = append(needed, "-ovn.nb", "ssl:nb:6641", "-ovn.tls.ca", "/ca", "-ovn.tls.cert", "/cert")
		case "hubble.tls.cert":
			needed = append(needed, "-hubble.addr", ":4244", "-hubble.tls.key", "/key")
		case "hubble.tls.key":
			needed = append(needed, "-hubble.addr", ":4244", "-hubble.tls.cert", "/cert")
		case "hubble.tls.client-ca":
			needed = append(needed, "-hubble.addr", ":4244", "-hubble.tls.cert", "/cert", "-hubble.tls.key", "/key")
		}
		if name, ok := strings.CutPrefix(o.name, otlpFlags); ok {
			needed = append(needed, "-transport", "otlp")
			switch name {
			case "protocol":
				needed = append(needed, "-transport.otlp.endpoint", "https://localhost:4318/v1/logs")
			case "tls.ca", "tls.insecure":
				needed = append(needed, "-transport.otlp.tls")
			case "tls.cert":
				needed = append(needed, "-transport.otlp.tls", "-transport.otlp.tls.key", "/key")
			case "tls.key":
				needed = append(needed, "-transport.otlp.tls", "-transport.otlp.tls.cert", "/cert")
			}
		}
		if name, ok := strings.CutPrefix(o.name, httpFlags); ok {
			needed = append(needed, "-transport", "http")
			if name != "url" {
				needed = append(needed, "-transport.http.url", "https://h/")
			}
			switch name {
			case "tls.cert":
				needed = append(needed, "-transport.http.tls.key", "/key")
			case "tls.key":
				needed = append(needed, "-transport.http.tls.cert", "/cert")
			}
		}
		check := func(where string, args, env []string) {
			t.Helper()
			env = append(env, "KAFKA_SASL_USER=u", "KAFKA_SASL_PASS=p=1")
			c, err := Parse(slices.Concat(needed, args, tt.files), env, false)
			if err != nil {
				t.Errorf("-%s in %s: %v", o.name, where, err)
			} else if !tt.got(c) {
				t.Errorf("-%s in %s is not taken over: %+v", o.name, where, *c)
			}
		}
		check("flags", []string{"-" + o.name + "=" + tt.value}, nil)
		check("flags with two dashes", []string{"--" + o.name + "=" + tt.value}, nil)
		if o.arg != "" {
			check("flags, value apart", []string{"-" + o.name, tt.value}, nil)
		} else if o.def != "true" { // those are on by default
			check("flags as a switch", []string{"-" + o.name}, nil)
		}
		if o.commandLine {
			continue
		}
		check("environment", nil, []string{o.env() + "=" + tt.value})
		check("file", []string{"-config", write(t, "c.yaml", o.name+": '"+tt.value+"'\n")}, nil)
		if group, rest, ok := strings.Cut(o.name, "."); ok {
			check("file, nested", []string{"-config", write(t, "c.yaml", group+":\n  "+rest+": "+tt.value+"\n")}, nil)
		}
	}
}

func TestEnvironmentNames(t *testing.T) {
	for _, o := range options(outputTypes()) {
		if o.commandLine {
			continue // TestShortFilters
		}
		if !regexp.MustCompile(`^KUBE_ENRICHER_[A-Z_]+$`).MatchString(o.env()) {
			t.Errorf("-%s: %s", o.name, o.env())
		}
		if serviceLink(o.env(), "udp://10.0.0.1:2055") {
			t.Errorf("-%s: %s could be set by Kubernetes for a Service", o.name, o.env())
		}
	}
}

func TestParsePrecedence(t *testing.T) {
	file := write(t, "c.yaml", "# all that can be said\ncluster: file\naddr: :1\nlogfmt: json\nkube:\n  sync-timeout: 3s\nfields:\n- default\n- +TimeFlowStartNs\n")
	c, err := Parse([]string{"-cluster", "flag"}, []string{"KUBE_ENRICHER_CONFIG=" + file, "KUBE_ENRICHER_CLUSTER=env", "KUBE_ENRICHER_ADDR=:2"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if c.Cluster != "flag" || c.Addr != ":2" || !c.LogJSON || c.KubeSyncTimeout != 3*time.Second || c.Fields != "default,+TimeFlowStartNs" || c.ConfigFile != file {
		t.Errorf("%+v", *c)
	}
	// What is beaten may even be wrong.
	if _, err := Parse([]string{"-loglevel", "info"}, []string{"KUBE_ENRICHER_LOGLEVEL=loud"}, false); err != nil {
		t.Error(err)
	}
	// An empty value is a value.
	c, err = Parse([]string{"-addr", ""}, []string{"KUBE_ENRICHER_ADDR=:2"}, false)
	if err != nil || c.Addr != "" {
		t.Errorf("addr %q, %v", c.Addr, err)
	}
	// The last of several wins, as in the flag package.
	c, err = Parse([]string{"-addr", ":1", "-addr", ":2"}, nil, false)
	if err != nil || c.Addr != ":2" {
		t.Errorf("addr %q, %v", c.Addr, err)
	}
	for _, text := range []string{"", "# nothing\n", "---\n", "{}\n", "null\n"} {
		if _, err := Parse([]string{"-config", write(t, "c.yaml", text)}, nil, false); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestParseMode(t *testing.T) {
	tests := []struct {
		name  string
		args  []string
		env   []string
		pipe  bool
		mode  Mode
		files string
		impl  bool
		addr  string
	}{
		{name: "nothing", mode: Collect, addr: ":8080"},
		{name: "no probes", args: []string{"-addr="}, mode: Collect},
		{name: "pipe", pipe: true, mode: Stdin, impl: true},
		{name: "pipe, HTTP asked for", args: []string{"-addr", ":8080"}, pipe: true, mode: Stdin, impl: true, addr: ":8080"},
		{name: "pipe, HTTP asked for by environment", env: []string{"KUBE_ENRICHER_ADDR=:80"}, pipe: true, mode: Stdin, impl: true, addr: ":80"},
		{name: "pipe and -listen", args: []string{"-listen", "flow://:2055"}, pipe: true, mode: Collect, addr: ":8080"},
		{name: "pipe and listen by environment", env: []string{"KUBE_ENRICHER_LISTEN=flow://:2055"}, pipe: true, mode: Collect, addr: ":8080"},
		{name: "pipe and capture", args: []string{"a.pcap"}, pipe: true, mode: Capture, files: "a.pcap"},
		{name: "dash", args: []string{"-"}, mode: Stdin},
		{name: "dash and pipe", args: []string{"-"}, pipe: true, mode: Stdin},
		{name: "dash and -input", args: []string{"-input", "json", "-"}, mode: Stdin},
		{name: "pipe and -input", args: []string{"-input", "json"}, pipe: true, mode: Stdin, impl: true},
		{name: "captures", args: []string{"a.pcap", "d/b.pcapng", "c.pcap.gz", "E.PCAPNG.GZ"}, mode: Capture, files: "a.pcap d/b.pcapng c.pcap.gz E.PCAPNG.GZ"},
		{name: "capture and -listen", args: []string{"-listen", "flow://:9995", "a.pcap"}, mode: Capture, files: "a.pcap"},
		{name: "capture and HTTP", args: []string{"-addr", "localhost:0", "a.pcap"}, mode: Capture, files: "a.pcap", addr: "localhost:0"},
		{name: "capture after --", args: []string{"--", "a.pcap"}, mode: Capture, files: "a.pcap"},
		{name: "-input auto", args: []string{"-input", "auto"}, mode: Collect, addr: ":8080"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse(tt.args, tt.env, tt.pipe)
			if err != nil {
				t.Fatal(err)
			}
			if c.Mode != tt.mode || strings.Join(c.Files, " ") != tt.files || c.StdinImplied != tt.impl || c.Addr != tt.addr {
				t.Errorf("mode %v, files %q, stdinImplied %v, addr %q", c.Mode, c.Files, c.StdinImplied, c.Addr)
			}
		})
	}
}

func TestParseServiceLinks(t *testing.T) {
	env := strings.Fields(`KUBE_ENRICHER_SERVICE_HOST=10.96.0.7 KUBE_ENRICHER_SERVICE_PORT=2055 KUBE_ENRICHER_SERVICE_PORT_NETFLOW=2055
		KUBE_ENRICHER_PORT=udp://10.96.0.7:2055 KUBE_ENRICHER_PORT_2055_UDP=udp://10.96.0.7:2055 KUBE_ENRICHER_PORT_2055_UDP_PROTO=udp
		KUBE_ENRICHER_PORT_2055_UDP_PORT=2055 KUBE_ENRICHER_PORT_2055_UDP_ADDR=10.96.0.7 KUBE_ENRICHER_METRICS_SERVICE_HOST=10.96.0.8
		KUBE_ENRICHER_METRICS_SERVICE_PORT_HTTP=8080 KUBE_ENRICHER_METRICS_PORT=tcp://10.96.0.8:8080 KUBE_ENRICHER_METRICS_PORT_8080_TCP_ADDR=10.96.0.8
		KUBE_ENRICHER_2_PORT_1_SCTP=sctp://10.96.0.8:1 KUBE_ENRICHERS=x KUBERNETES_PORT=tcp://10.96.0.1:443`)
	if _, err := Parse(nil, env, false); err != nil {
		t.Error(err)
	}
}

func TestParseErrors(t *testing.T) {
	const (
		cfg   = "\x00" // stands for the configuration file's name in args and want
		begin = "^"    // in want: the line begins so
	)
	tests := []struct {
		name string
		args []string
		env  []string
		yaml string
		pipe bool
		want string // with begin, else all of it
	}{
		// Flags.
		{"Hubble, standard input", []string{"-hubble.addr", ":4244", "-"}, nil, "", false, "-hubble.addr: Hubble has no records from standard input; leave it out"},
		{"Hubble, a pipe", []string{"-hubble.addr", ":4244"}, nil, "", true, "-hubble.addr: Hubble has no records from standard input; leave it out"},
		{"Hubble, no address", []string{"-hubble.tls.cert", "c", "-hubble.tls.key", "k"}, nil, "", false, "-hubble.tls.cert: nobody connects without -hubble.addr; give it, too"},
		{"Hubble, only a key", nil, []string{"KUBE_ENRICHER_HUBBLE_TLS_KEY=k"}, "", false, "-hubble.tls.key (from environment variable KUBE_ENRICHER_HUBBLE_TLS_KEY): nobody connects without -hubble.addr; give it, too"},
		{"Hubble, only a CA", []string{"-hubble.tls.client-ca", "c"}, nil, "", false, "-hubble.tls.client-ca: nobody connects without -hubble.addr; give it, too"},
		{"Hubble, no key", []string{"-hubble.addr", ":4244", "-hubble.tls.cert", "c"}, nil, "", false, "-hubble.tls.cert: a certificate needs its key; give -hubble.tls.key, too"},
		{"Hubble, no certificate", []string{"-hubble.addr", ":4244", "-hubble.tls.key", "k"}, nil, "", false, "-hubble.tls.key: a key needs its certificate; give -hubble.tls.cert, too"},
		{"Hubble, clients without TLS", []string{"-hubble.addr", ":4244", "-hubble.tls.client-ca", "c"}, nil, "", false, "-hubble.tls.client-ca: clients show certificates by TLS only; give -hubble.tls.cert and -hubble.tls.key, too"},
		{"Hubble, the address of metrics", []string{"-hubble.addr", ":8080"}, nil, "", false, `-hubble.addr: ":8080" is the address of -addr too; give another port`},
		{"unknown flag", []string{"-lisen", ":2055"}, nil, "", false, "unknown flag -lisen; did you mean -listen?"},
		{"unknown flag, other case", []string{"-LogLevel=info"}, nil, "", false, "unknown flag -LogLevel; did you mean -loglevel?"},
		{"unknown flag, dash", []string{"--kube-snapshot=x"}, nil, "", false, "unknown flag -kube-snapshot; did you mean -kube.snapshot?"},
		{"unknown flag, last part", []string{"-snapshot=x"}, nil, "", false, "unknown flag -snapshot; did you mean -kube.snapshot?"},
		{"unknown flag, nothing near", []string{"-produce", "raw"}, nil, "", false, "unknown flag -produce; -h lists those that are allowed"},
		{"unknown flag, hostile", []string{"-a\nb\x1b"}, nil, "", false, `unknown flag -"a\nb\x1b"; -h lists those that are allowed`},
		{"flag without value", []string{"-listen"}, nil, "", false, "-listen: needs a value, URL,..."},
		{"bad syntax", []string{"---listen=x"}, nil, "", false, "bad flag syntax: ---listen=x; -h lists the flags"},
		{"flag after FILE", []string{"a.pcap", "-kube.off"}, nil, "", false, "FILE -kube.off: flags go before the first FILE; write ./-kube.off if it is a file"},

		// Values, and where they come from.
		{"level", []string{"-loglevel", "loud"}, nil, "", false, `-loglevel: "loud" is not allowed; give one of panic, fatal, error, warning, info, debug, trace`},
		{"level in environment", nil, []string{"KUBE_ENRICHER_LOGLEVEL=loud"}, "", false, `-loglevel (from environment variable KUBE_ENRICHER_LOGLEVEL): "loud" is not allowed; give one of panic, fatal, error, warning, info, debug, trace`},
		{"level in file", []string{"-config", cfg}, nil, "addr: :80\nloglevel: loud\n", false, `-loglevel (from ` + cfg + `:2): "loud" is not allowed; give one of panic, fatal, error, warning, info, debug, trace`},
		{"nested in file", []string{"-config", cfg}, nil, "kube:\n  sync-timeout: 60\n", false, `-kube.sync-timeout (from ` + cfg + `:2): "60" is not allowed; give a duration such as 60s or 2m, or 0s for none`},
		{"empty level", []string{"-loglevel="}, nil, "", false, `-loglevel: "" is not allowed; give one of panic, fatal, error, warning, info, debug, trace`},
		{"log format", []string{"-logfmt", "xml"}, nil, "", false, `-logfmt: "xml" is not allowed; give one of normal, json`},
		{"input", []string{"-input", "xml", "-"}, nil, "", false, `-input: "xml" is not allowed; give one of auto, json, protobuf, capture`},
		{"schema", []string{"-schema", "v3"}, nil, "", false, `-schema: "v3" is not allowed; give one of v1, v2, netobserv`},
		{"format", []string{"-format", "xml"}, nil, "", false, `-format: "xml" is not allowed; give one of json, protobuf, text`},
		{"transport", []string{"-transport", "pigeon"}, nil, "", false, `-transport: "pigeon" is not allowed; give one of file, kafka, http, otlp, or several such as file:json,kafka:protobuf`},
		{"switch", []string{"-kube.off=maybe"}, nil, "", false, `-kube.off: "maybe" is not allowed; give true or false`},
		{"switch in environment", nil, []string{"KUBE_ENRICHER_CHECK="}, "", false, `-check (from environment variable KUBE_ENRICHER_CHECK): "" is not allowed; give true or false`},
		{"allow without network", []string{"-allow", "10.0.0.0/8,everyone"}, nil, "", false, `-allow: "everyone" is not allowed; give networks such as 10.0.0.0/8 or fd00::/8, or addresses`},
		{"allow with host bits", []string{"-allow", "10.0.0.1/8"}, nil, "", false, `-allow: "10.0.0.1/8" is not allowed; give networks such as 10.0.0.0/8 or fd00::/8, or addresses`},
		{"sampling without rate", []string{"-sampling", "10.0.0.0/8"}, nil, "", false, `-sampling: "10.0.0.0/8" is not allowed; give CIDR=RATE with a rate from 1 on, such as 10.0.0.0/8=400`},
		{"sampling by zero", []string{"-sampling", "10.0.0.0/8=0"}, nil, "", false, `-sampling: "10.0.0.0/8=0" is not allowed; give CIDR=RATE with a rate from 1 on, such as 10.0.0.0/8=400`},
		{"negative duration", []string{"-kube.sync-timeout", "-1s"}, nil, "", false, `-kube.sync-timeout: "-1s" is not allowed; give a duration such as 60s or 2m, or 0s for none`},
		{"address without port", []string{"-addr", "localhost"}, nil, "", false, `-addr: "localhost" is not allowed; give [HOST]:PORT with a port from 0 to 65535, or an empty value for none`},
		{"address with large port", []string{"-debug.addr", ":65536"}, nil, "", false, `-debug.addr: ":65536" is not allowed; give [HOST]:PORT with a port from 0 to 65535, or an empty value for none`},
		{"one pair of workloads", []string{"-metrics.workloads", "1"}, nil, "", false, `-metrics.workloads: "1" is not allowed; give a number from 2 to 100000, or 0 for none`},
		{"too many pairs of workloads", []string{"-metrics.workloads", "100001"}, nil, "", false, `-metrics.workloads: "100001" is not allowed; give a number from 2 to 100000, or 0 for none`},
		{"cluster", []string{"-cluster", "a\nb"}, nil, "", false, `-cluster: "a\nb" is not allowed; give a name in UTF-8 without control characters`},
		{"listen", []string{"-listen", "udp://:2055"}, nil, "", false, begin + "-listen: "},
		{"listen twice", []string{"-listen", "flow://:2055,flow://:2055"}, nil, "", false, begin + "-listen: "},
		{"listen, empty", []string{"-listen="}, nil, "", false, begin + "-listen: empty"},
		{"listen, hostile", []string{"-listen", "flow://\n\x00:2055"}, nil, "", false, begin + "-listen: "},
		{"mapping", []string{"-mapping", "Bytes=Src"}, nil, "", false, begin + `-mapping: "Bytes" is not an address field (one of `},
		{"mapping, empty", []string{"-mapping="}, nil, "", false, begin + `-mapping: empty`},
		{"fields", []string{"-fields", "default,+Colour"}, nil, "", false, begin + `-fields: no field is named "Colour"; possible are `},
		{"fields, none left", []string{"-fields", "-all"}, nil, "", false, begin + `-fields: `},
		{"fields in file", []string{"-config", cfg}, nil, "fields: nothing\n", false, begin + `-fields (from ` + cfg + `:1): `},
		{"namespaces", []string{"-kube.namespaces", "shop,Web"}, nil, "", false, `-kube.namespaces: "Web" is not allowed; give names of namespaces, such as shop,web`},
		{"an empty namespace", []string{"-kube.namespaces", "shop,"}, nil, "", false, `-kube.namespaces: "" is not allowed; give names of namespaces, such as shop,web`},
		{"namespaces of a snapshot", []string{"-kube.namespaces", "shop", "-kube.snapshot", "x"}, nil, "", false, "-kube.snapshot: cannot be used with -kube.namespaces; a snapshot is used in place of a cluster, give one of the two"},
		{"namespaces without a cluster", []string{"-kube.namespaces", "shop", "-kube.off"}, nil, "", false, "-kube.off: cannot be used with -kube.namespaces; give one of the two"},
		{"owners", []string{"-kube.owners", "VirtualMachine"}, nil, "", false, `-kube.owners: "VirtualMachine" is not allowed; give resources with their groups, such as virtualmachines.kubevirt.io`},
		{"owners without a name", []string{"-kube.owners", "a.b,"}, nil, "", false, `-kube.owners: "" is not allowed; give resources with their groups, such as virtualmachines.kubevirt.io`},
		{"join subnets", []string{"-ovn.join-subnets", "100.64.0.0/33"}, nil, "", false, `-ovn.join-subnets: "100.64.0.0/33" is not allowed; give networks such as 10.0.0.0/8 or fd00::/8, or addresses`},
		{"labels", []string{"-kube.labels", "app"}, nil, "", false, `-kube.labels: "app" is not LABEL=FIELD; an example is app.kubernetes.io/name=App`},
		{"labels that collide", []string{"-kube.labels", "app=Addr"}, nil, "", false, "-kube.labels: two fields would have the name SrcAddr; choose another name"},
		{"fields in text", []string{"-fields", "Bytes", "-format", "text"}, nil, "", false, `-fields: "Bytes": lines of text have columns of their own, to which +NAME adds a field; for fewer, give -format json`},
		{"unknown field in text", []string{"-fields", "default,+Byte", "-format", "text"}, nil, "", false, begin + `-fields: no field is named "Byte"; did you mean Bytes?`},
		{"fields in protobuf", []string{"-fields", "IcmpName", "-format", "pb"}, nil, "", false, begin + `-fields: no field is named "IcmpName"; possible are `},
		{"schema of protobuf", []string{"-schema", "v2", "-format", "pb"}, nil, "", false, `-schema: "v2" is for -format json; leave it out`},
		{"lines as protobuf", []string{"-input", "json", "-format", "bin", "-"}, nil, "", false, "-input: lines of JSON on standard input can only be written as JSON or text; let goflow2 write protobuf (-format bin), or give -format json"},
		{"snapshot of standard input", []string{"-kube.snapshot", "-"}, nil, "", false, "-kube.snapshot: - is not allowed; give a file"},
		{"output to dash", []string{"-transport.file", "-"}, nil, "", false, "-transport.file: - is not allowed; leave it empty for standard output"},
		{"hostile file name", []string{"-kubeconfig", "a\x00b"}, nil, "", false, `-kubeconfig: "a\x00b" is no name of a file; give a file`},
		{"long value", []string{"-schema", strings.Repeat("x", 100_000)}, nil, "", false, `-schema: "` + strings.Repeat("x", 200) + `"... is not allowed; give one of v1, v2, netobserv`},

		// Environment.
		{"unknown variable", nil, []string{"KUBE_ENRICHER_LISEN=x"}, "", false, "environment variable KUBE_ENRICHER_LISEN sets no flag; did you mean KUBE_ENRICHER_LISTEN?"},
		{"unknown variable, lower case", nil, []string{"KUBE_ENRICHER_kube_off=1"}, "", false, "environment variable KUBE_ENRICHER_kube_off sets no flag; did you mean KUBE_ENRICHER_KUBE_OFF?"},
		{"unknown variable, nothing near", nil, []string{"KUBE_ENRICHER_COLOUR=red"}, "", false, "environment variable KUBE_ENRICHER_COLOUR sets no flag; allowed are KUBE_ENRICHER_ followed by a flag's name in upper case, with dots and dashes as _"},
		{"variable without name", nil, []string{"KUBE_ENRICHER_=x"}, "", false, begin + "environment variable KUBE_ENRICHER_ sets no flag; "},
		{"port by mistake", nil, []string{"KUBE_ENRICHER_PORT=2055"}, "", false, begin + "environment variable KUBE_ENRICHER_PORT sets no flag; "},

		// File.
		{"no file", []string{"-config", "/nonexistent/c.yaml"}, nil, "", false, "-config: open /nonexistent/c.yaml: no such file or directory"},
		{"no file by environment", nil, []string{"KUBE_ENRICHER_CONFIG=/nonexistent/c.yaml"}, "", false, "-config (from environment variable KUBE_ENRICHER_CONFIG): open /nonexistent/c.yaml: no such file or directory"},
		{"unknown key", []string{"-config", cfg}, nil, "addr: :80\nlisen: x\n", false, cfg + `:2: unknown key "lisen"; did you mean listen?`},
		{"unknown nested key", []string{"-config", cfg}, nil, "kube:\n  of: true\n", false, cfg + `:2: unknown key "kube.of"; did you mean kube.off?`},
		{"unknown key, nothing near", []string{"-config", cfg}, nil, "colour:\n  of: red\n", false, cfg + `:1: unknown key "colour"; allowed are the names of flags, see -h`},
		{"environment's name as key", []string{"-config", cfg}, nil, "KUBE_OFF: true\n", false, cfg + `:1: unknown key "KUBE_OFF"; did you mean kube.off?`},
		{"group without value", []string{"-config", cfg}, nil, "kube:\n", false, begin + cfg + `:1: unknown key "kube"; `},
		{"mapping as value", []string{"-config", cfg}, nil, "listen:\n  a: b\n", false, cfg + `:1: key listen: is a mapping; give a value or a list of values`},
		{"list of lists", []string{"-config", cfg}, nil, "listen: [[a]]\n", false, cfg + `:1: key listen: has a list of something else than plain values; give plain values`},
		{"no value", []string{"-config", cfg}, nil, "listen:\n", false, cfg + `:1: key listen: has no value; write "" if it is to be empty`},
		{"alias", []string{"-config", cfg}, nil, "cluster: &a x\ntransport.file: *a\n", false, cfg + `:2: key transport.file: is an alias; write the value out`},
		{"merge", []string{"-config", cfg}, nil, "<<: {cluster: x}\n", false, cfg + `:1: a key is not a plain word; keys are names of flags`},
		{"key twice", []string{"-config", cfg}, nil, "kube.off: true\nkube:\n  off: true\n", false, cfg + `:3: key kube.off: is there twice; give it once`},
		{"file in file", []string{"-config", cfg}, nil, "config: other.yaml\n", false, cfg + `:1: key config: a configuration file cannot name another; use the flag -config`},
		{"no mapping", []string{"-config", cfg}, nil, "- listen\n", false, cfg + `:1: -config takes a YAML mapping, such as listen: flow://:2055`},
		{"no YAML", []string{"-config", cfg}, nil, "listen: [\n", false, begin + cfg + ":"},
		{"tabs", []string{"-config", cfg}, nil, "kube:\n\toff: true\n", false, begin + cfg + ":2: "},
		{"binary", []string{"-config", cfg}, nil, "\x00\x01\xff", false, begin + cfg},
		{"two documents", []string{"-config", cfg}, nil, "addr: :80\n---\naddr: :81\n", false, cfg + `: has more than one YAML document; -config takes one`},

		// FILEs.
		{"empty name", []string{""}, nil, "", false, `FILE "": has no name; give a capture, or - for standard input`},

		// Contradictions.
		{"dash and capture", []string{"-", "a.pcap"}, nil, "", false, "FILE -: standard input cannot be read together with other files; give - alone, or only captures"},
		{"capture and dash", []string{"a.pcap", "-"}, nil, "", true, "FILE -: standard input cannot be read together with other files; give - alone, or only captures"},
		{"dash twice", []string{"-", "-"}, nil, "", false, begin + "FILE -: "},
		{"dash and -listen", []string{"-listen", "flow://:2055", "-"}, nil, "", false, "-listen: nothing is received when FILE is -; give one of the two"},
		{"dash and listen by environment", []string{"-"}, []string{"KUBE_ENRICHER_LISTEN=flow://:2055"}, "", true, "-listen (from environment variable KUBE_ENRICHER_LISTEN): nothing is received when FILE is -; give one of the two"},
		{"-input when collecting", []string{"-input", "json"}, nil, "", false, `-input: "json" is for standard input only (FILE -, or a pipe without -listen); leave it out`},
		{"-input and -listen on a pipe", []string{"-input", "json", "-listen", "flow://:2055"}, nil, "", true, begin + `-input: "json" is for standard input only`},
		{"-input and capture", []string{"-input", "json", "a.pcap"}, nil, "", false, begin + `-input: "json" is for standard input only`},
		{"off and snapshot", []string{"-kube.off", "-kube.snapshot", "x"}, nil, "", false, "-kube.off: cannot be used with -kube.snapshot; give one of the two"},
		{"off and kubeconfig", []string{"-kube.off"}, []string{"KUBE_ENRICHER_KUBECONFIG=x"}, "", false, "-kube.off: cannot be used with -kubeconfig (from environment variable KUBE_ENRICHER_KUBECONFIG); give one of the two"},
		{"snapshot and kubeconfig", []string{"-kube.snapshot=x", "-kubeconfig=y"}, nil, "", false, "-kube.snapshot: cannot be used with -kubeconfig; a snapshot is used in place of a cluster, give one of the two"},
		{"the page's address twice", []string{"-ui.addr", ":8080"}, nil, "", false, `-ui.addr: ":8080" is the address of -addr too; give another port`},
		{"a page of standard input", []string{"-ui.addr", ":8082", "-"}, nil, "", false, `-ui.addr: there is no page of records from standard input; leave it out`},
		{"little room for records", []string{"-recent", "1KiB"}, nil, "", false, `-recent: "1KiB" is not allowed; give a size from 1048576 to 68719476736 bytes, plain or such as 8MiB`},
		{"one address twice", []string{"-debug.addr", ":8080"}, nil, "", false, `-debug.addr: ":8080" is the address of -addr too; give another port`},
		// Outputs.
		{"format unknown in transport", []string{"-transport", "file:xml"}, nil, "", false, `-transport: "xml" is not allowed; give one of json, protobuf, text`},
		{"transport twice", []string{"-transport", "file:json,file:text"}, nil, "", false, "-transport: file is named twice; give it once"},
		{"no transport", []string{"-transport", "file,"}, nil, "", false, `-transport: "" is not allowed; give one of file, kafka, http, otlp, or several such as file:json,kafka:protobuf`},
		{"two formats", []string{"-transport", "file,kafka", "-format", "json,text"}, nil, "", false, `-format: "json" is not allowed; give one format, or TRANSPORT:FORMAT,... such as file:json,kafka:protobuf`},
		{"format for transport twice", []string{"-format", "file:json,file:json"}, nil, "", false, "-format: file is named twice; give it once"},
		{"format in both places", []string{"-transport", "file:json,kafka", "-format", "text"}, nil, "", false, `-format: "text" is not the format that -transport gives file, "json"; give it in one place`},
		{"format in both places by name", []string{"-transport", "file:json", "-format", "file:pb"}, nil, "", false, `-format: "protobuf" is not the format that -transport gives file, "json"; give it in one place`},
		{"format for what is not there", []string{"-format", "kafka:json"}, nil, "", false, "-format: there is no output kafka; name it in -transport, too"},
		{"file without file", []string{"-transport", "kafka", "-transport.file", "x"}, nil, "", false, "-transport.file: records don't go to a file with this -transport; give -transport file, or leave it out"},
		{"JSON lines for protobuf", []string{"-transport", "file:json,kafka:protobuf", "-input", "json", "-"}, nil, "", false, begin + "-input: lines of JSON on standard input can only be written as JSON or text"},
		{"Kafka's flag without Kafka", []string{"-transport.kafka.topic", "x"}, nil, "", false, "-transport.kafka.topic: records don't go to Kafka; give -transport kafka, or leave it out"},
		{"Kafka's flag without Kafka, environment", nil, []string{"KUBE_ENRICHER_TRANSPORT_KAFKA_TLS_CA=x"}, "", false, "-transport.kafka.tls.ca (from environment variable KUBE_ENRICHER_TRANSPORT_KAFKA_TLS_CA): records don't go to Kafka; give -transport kafka, or leave it out"},
		{"HTTP's flag without HTTP", []string{"-transport.http.url", "http://h/"}, nil, "", false, "-transport.http.url: records don't go to an HTTP server; give -transport http, or leave it out"},
		{"HTTP without URL", []string{"-transport", "http"}, nil, "", false, "-transport.http.url: is missing; give where records are sent"},
		{"no URL", []string{"-transport", "http", "-transport.http.url", "db:8123/hunter2"}, nil, "", false, "-transport.http.url: the URL does not begin with http:// or https://"},
		{"HTTP as text", []string{"-transport", "http:text", "-transport.http.url", "http://h/"}, nil, "", false, "-format: text is for people and files; give -format http:json or http:protobuf"},
		{"header", []string{"-transport", "http", "-transport.http.url", "http://h/", "-transport.http.headers", "hunter2"}, nil, "", false, "-transport.http.headers: header 1 is not NAME=VALUE; a comma within a value is %2C"},
		{"header twice", []string{"-transport", "http", "-transport.http.url", "http://h/", "-transport.http.headers", "a=hunter2, X-B=1,A: hunter3"}, nil, "", false, "-transport.http.headers: header A is given twice; give it once"},
		{"OTLP's header twice", []string{"-transport", "otlp", "-transport.otlp.headers", "a=x,a=y"}, nil, "", false, "-transport.otlp.headers: header A is given twice; give it once"},
		{"OTLP's header, variable", []string{"-transport", "otlp"}, []string{"OTEL_EXPORTER_OTLP_HEADERS=hunter2"}, "", false, "environment variable OTEL_EXPORTER_OTLP_HEADERS: header 1 is not NAME=VALUE; a comma within a value is %2C"},
		{"OTLP's key alone", []string{"-transport", "otlp"}, []string{"OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY=k"}, "", false, "environment variable OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY: the certificate is missing; give -transport.otlp.tls.cert, too"},
		{"OTLP's certificate alone", []string{"-transport", "otlp"}, []string{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=c"}, "", false, "environment variable OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: the key is missing; give -transport.otlp.tls.key, too"},
		{"header's variable", []string{"-transport", "http", "-transport.http.url", "http://h/"}, []string{"KUBE_ENRICHER_TRANSPORT_HTTP_HEADERS=A=${NONE}"}, "", false, "-transport.http.headers (from environment variable KUBE_ENRICHER_TRANSPORT_HTTP_HEADERS): header A: there is no environment variable NONE"},
		{"HTTP's compression", []string{"-transport", "http", "-transport.http.url", "http://h/", "-transport.http.compression", "lz4"}, nil, "", false, `-transport.http.compression: "lz4" is not allowed; give one of none, gzip, zstd`},
		{"HTTP's timeout", []string{"-transport", "http", "-transport.http.url", "http://h/", "-transport.http.timeout", "0s"}, nil, "", false, `-transport.http.timeout: "0s" is not allowed; give a duration of more than 0, such as 10s`},
		{"HTTP's batch", []string{"-transport", "http", "-transport.http.url", "http://h/", "-transport.http.batch", "64MiB"}, nil, "", false, "-transport.http.batch: a batch of 67108864 bytes is more than half of the buffer, 67108864; give a smaller one, or a larger -transport.http.buffer"},
		{"content type", []string{"-transport", "http", "-transport.http.url", "http://h/", "-transport.http.content-type", "json"}, nil, "", false, `-transport.http.content-type: "json" is not allowed; give a media type such as application/json`},
		{"HTTP's CA without TLS", []string{"-transport", "http", "-transport.http.url", "http://h/", "-transport.http.tls.ca", "x"}, nil, "", false, "-transport.http.tls.ca: connections have no TLS; give a URL that begins with https, or leave it out"},
		{"HTTP's certificate without key", []string{"-transport", "http", "-transport.http.url", "https://h/", "-transport.http.tls.cert", "x"}, nil, "", false, "-transport.http.tls.cert: the key is missing; give -transport.http.tls.key, too"},
		{"OTLP's flag without OTLP", []string{"-transport.otlp.tls"}, nil, "", false, "-transport.otlp.tls: records don't go to a receiver of OTLP; give -transport otlp, or leave it out"},
		{"OTLP with a format", []string{"-transport", "otlp:json"}, nil, "", false, "-transport: otlp has a format of its own; leave its format out"},
		{"OTLP with a format, apart", []string{"-transport", "file,otlp", "-format", "otlp:json"}, nil, "", false, "-transport: otlp has a format of its own; leave its format out"},
		{"OTLP alone with a format", []string{"-transport", "otlp", "-format", "protobuf"}, nil, "", false, "-format: otlp has a format of its own; leave it out"},
		{"OTLP of lines", []string{"-transport", "otlp", "-input", "json", "-"}, nil, "", false, begin + "-input: lines of JSON on standard input can only be written as JSON or text, not by OTLP"},
		{"OTLP's address", []string{"-transport", "otlp", "-transport.otlp.endpoint", "collector"}, nil, "", false, "-transport.otlp.endpoint: this is no address for gRPC; give HOST:PORT such as collector:4317"},
		{"gRPC's own header", []string{"-transport", "otlp", "-transport.otlp.headers", "grpc-timeout=5S"}, nil, "", false, "-transport.otlp.headers: header Grpc-Timeout is not allowed with gRPC, which sets it; leave it out"},
		{"gRPC's names", []string{"-transport", "otlp", "-transport.otlp.headers", "x!=5"}, nil, "", false, "-transport.otlp.headers: header X!: gRPC's names have letters, digits and - _ . only"},
		{"gRPC's values", []string{"-transport", "otlp", "-transport.otlp.headers", "x=geheimnis-ü"}, nil, "", false, "-transport.otlp.headers: header X: gRPC's values have printable ASCII only"},
		{"OTLP's URL for gRPC", []string{"-transport", "otlp", "-transport.otlp.endpoint", "http://c:4317/v1/logs"}, nil, "", false, "-transport.otlp.endpoint: this is no address for gRPC; give HOST:PORT, or a URL without a path such as https://collector:4317"},
		{"OTLP's URL", []string{"-transport", "otlp", "-transport.otlp.protocol", "http", "-transport.otlp.endpoint", "ftp://c"}, nil, "", false, "-transport.otlp.endpoint: the URL does not begin with http:// or https://"},
		{"OTLP's protocol", []string{"-transport", "otlp"}, []string{"OTEL_EXPORTER_OTLP_PROTOCOL=http/json"}, "", false, `environment variable OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" is not allowed; give grpc or http/protobuf`},
		{"OTLP's timeout", []string{"-transport", "otlp"}, []string{"OTEL_EXPORTER_OTLP_TIMEOUT=10s"}, "", false, `environment variable OTEL_EXPORTER_OTLP_TIMEOUT: "10s" is not allowed; give milliseconds, such as 10000`},
		{"OTLP's TLS", []string{"-transport", "otlp"}, []string{"OTEL_EXPORTER_OTLP_INSECURE=true", "OTEL_EXPORTER_OTLP_LOGS_INSECURE=1"}, "", false, `environment variable OTEL_EXPORTER_OTLP_LOGS_INSECURE: "1" is not allowed; give true or false`},
		{"OTLP's endpoint, variable", []string{"-transport", "otlp"}, []string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=hunter2"}, "", false, "environment variable OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: this is no address for gRPC; give HOST:PORT such as collector:4317"},
		{"OTLP's CA without TLS", []string{"-transport", "otlp", "-transport.otlp.tls.ca", "x"}, nil, "", false, "-transport.otlp.tls.ca: connections have no TLS; give -transport.otlp.tls or an endpoint that begins with https://, or leave it out"},
		{"OTLP's TLS without TLS", []string{"-transport", "otlp", "-transport.otlp.protocol", "http", "-transport.otlp.endpoint", "http://c", "-transport.otlp.tls"}, nil, "", false, "-transport.otlp.tls: the endpoint begins with http://; give one that begins with https://"},
		{"OTLP's resource", []string{"-transport", "otlp"}, []string{"OTEL_RESOURCE_ATTRIBUTES=a"}, "", false, `environment variable OTEL_RESOURCE_ATTRIBUTES: "a" is not allowed; give NAME=VALUE,...`},
		{"zones without metrics", []string{"-metrics.zones", "-metrics.workloads", "0"}, nil, "", false, "-metrics.zones: there are no traffic metrics with -metrics.workloads 0; leave one of the two out"},
		{"empty database", []string{"-geoip", "a.mmdb,"}, nil, "", false, `-geoip: "a.mmdb," has an empty name; give files such as a.mmdb,b.mmdb`},
		{"SASL without user", []string{"-transport", "kafka", "-transport.kafka.sasl", "plain"}, []string{"KAFKA_SASL_PASS=x"}, "", false, "-transport.kafka.sasl: plain needs the environment variables KAFKA_SASL_USER and KAFKA_SASL_PASS; set both"},
		{"live without check", []string{"-check.live"}, nil, "", false, "-check.live: is part of -check; give -check, too"},
		{"SASL unknown", []string{"-transport", "kafka", "-transport.kafka.sasl", "gssapi"}, nil, "", false, `-transport.kafka.sasl: "gssapi" is not allowed; give one of none, plain, scram-sha256, scram-sha512`},
		{"CA without TLS", []string{"-transport", "kafka", "-transport.kafka.tls.ca", "x"}, nil, "", false, "-transport.kafka.tls.ca: connections have no TLS; give -transport.kafka.tls, or leave it out"},
		{"insecure without TLS", []string{"-transport", "kafka", "-transport.kafka.tls.insecure"}, nil, "", false, "-transport.kafka.tls.insecure: connections have no TLS; give -transport.kafka.tls, or leave it out"},
		{"certificate without key", []string{"-transport", "kafka", "-transport.kafka.tls", "-transport.kafka.tls.client", "x"}, nil, "", false, "-transport.kafka.tls.client: the key is missing; give -transport.kafka.tls.key, too"},
		{"key without certificate", []string{"-transport", "kafka", "-transport.kafka.tls", "-transport.kafka.tls.key", "x"}, nil, "", false, "-transport.kafka.tls.key: the certificate is missing; give -transport.kafka.tls.client, too"},
		{"brokers and SRV", []string{"-transport", "kafka", "-transport.kafka.srv", "x", "-transport.kafka.brokers", "y"}, nil, "", false, "-transport.kafka.srv: cannot be used with -transport.kafka.brokers; give one of the two"},
		{"no broker", []string{"-transport", "kafka", "-transport.kafka.brokers", "a:b"}, nil, "", false, `-transport.kafka.brokers: "a:b" is no broker; give HOST:PORT,... such as kafka-0:9092,[fd00::1]:9092`},
		{"topic", []string{"-transport", "kafka", "-transport.kafka.topic", "a b"}, nil, "", false, `-transport.kafka.topic: "a b" is no name of a topic; give up to 249 letters, digits, dots, dashes and underscores`},
		{"compression", []string{"-transport", "kafka", "-transport.kafka.compression", "brotli"}, nil, "", false, `-transport.kafka.compression: "brotli" is not allowed; give one of none, gzip, snappy, lz4, zstd`},
		{"small buffer", []string{"-transport", "kafka", "-transport.kafka.buffer", "1000"}, nil, "", false, `-transport.kafka.buffer: "1000" is not allowed; give a size from 131072 to 1099511627776 bytes, plain or such as 8MiB`},
		{"flush", []string{"-transport", "kafka", "-transport.kafka.flushfreq", "2m"}, nil, "", false, `-transport.kafka.flushfreq: "2m" is not allowed; give at most 1m0s`},
		{"key unknown", []string{"-transport", "kafka", "-transport.kafka.key", "SrcAddr,Nonsense"}, nil, "", false, `-transport.kafka.key: no field is named "Nonsense"; an example is SrcAddr,DstAddr`},
		{"key of a list", []string{"-transport", "kafka", "-transport.kafka.key", "as_path"}, nil, "", false, "-transport.kafka.key: field AsPath has several values, which no key can be made of"},
		{"key of a constant", []string{"-transport", "kafka", "-transport.kafka.key", "Cluster"}, nil, "", false, "-transport.kafka.key: field Cluster is the same in every record; leave it out"},
		{"key of a field twice", []string{"-transport", "kafka", "-transport.kafka.key", "SrcAddr,src_addr"}, nil, "", false, "-transport.kafka.key: field SrcAddr is named twice"},
		{"hashing without key", []string{"-transport", "kafka", "-transport.kafka.key", "", "-transport.kafka.hashing"}, nil, "", false, "-transport.kafka.hashing: records have no key; give -transport.kafka.key, or leave it out"},
		{"output is input", []string{"-transport.file", "./a.pcap", "a.pcap"}, nil, "", false, `-transport.file: "./a.pcap" is the file of FILE, too; give another file for the records`},
		{"output is snapshot", []string{"-transport.file", "s.yaml", "-kube.snapshot", "s.yaml"}, nil, "", false, `-transport.file: "s.yaml" is the file of -kube.snapshot, too; give another file for the records`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := ""
			if tt.yaml != "" {
				file = write(t, "c.yaml", tt.yaml)
			}
			var args []string
			for _, a := range tt.args {
				if a == cfg {
					a = file
				}
				args = append(args, a)
			}
			c, err := Parse(args, tt.env, tt.pipe)
			if err == nil {
				t.Fatalf("no error, but %+v", *c)
			}
			if u := (*UsageError)(nil); !errors.As(err, &u) {
				t.Errorf("%T is no usage error", err)
			}
			want := strings.ReplaceAll(tt.want, cfg, file)
			got := err.Error()
			if prefix, ok := strings.CutPrefix(want, begin); ok && !strings.HasPrefix(got, prefix) || !ok && got != want {
				t.Errorf("\ngot  %s\nwant %s", got, want)
			}
			oneLine(t, got)
		})
	}
}

func oneLine(t *testing.T, s string) {
	t.Helper()
	if s == "" || strings.ContainsAny(s, "\n\r\v\f\x00\x1b\u0085\u2028\u2029") {
		t.Errorf("not one line: %q", s)
	}
}

func TestParseHelpAndVersion(t *testing.T) {
	for _, arg := range []string{"-h", "--help", "-help"} {
		if _, err := Parse([]string{"-kube.off", arg, "-nonsense"}, []string{"KUBE_ENRICHER_X=1"}, false); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("%s: %v", arg, err)
		}
	}
	if _, err := Parse([]string{"help"}, nil, true); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("help: %v", err)
	}
	for _, arg := range []string{"-v", "-version", "--version", "version"} {
		c, err := Parse([]string{arg}, []string{"KUBE_ENRICHER_X=1"}, true)
		if err != nil || !c.ShowVersion {
			t.Errorf("%s: %+v, %v", arg, c, err)
		}
	}
	if _, err := Parse([]string{"-v", "-nonsense"}, nil, false); err == nil {
		t.Error("-v hides an unknown flag")
	}
}

func TestUsage(t *testing.T) {
	var b strings.Builder
	if err := WriteUsage(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if len(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("line of more than 80 columns: %s", line)
		}
	}
	seen := make(map[string]bool)
	for _, o := range options(outputTypes()) {
		if !strings.Contains(b.String(), "\n  -"+o.name) {
			t.Errorf("-%s is missing", o.name)
		}
		if seen[o.name] {
			t.Errorf("-%s is there twice", o.name)
		}
		seen[o.name] = true
	}
}

// TestOutputTypes checks that all there is to know of an output follows from its
// entry in the table.
func TestOutputTypes(t *testing.T) {
	types := outputTypes()
	table := options(types)
	_, unknown := Parse([]string{"-transport", "pigeon"}, nil, false)
	for _, o := range types {
		for _, opt := range o.options() {
			if opt.name != "transport."+o.name() && !strings.HasPrefix(opt.name, "transport."+o.name()+".") {
				t.Errorf("-%s is an option of %s", opt.name, o.name())
			}
			if opt.group == "" || !slices.ContainsFunc(table, func(in option) bool { return in.name == opt.name && in.group == opt.group }) {
				t.Errorf("-%s is not in the table", opt.name)
			}
		}
		args := []string{"-transport", o.name()}
		if o.name() == "http" {
			args = append(args, "-transport.http.url", "http://h/") // has no default
		}
		c, err := Parse(args, nil, false)
		if err != nil || len(c.Outputs) != 1 || c.Outputs[0].Transport != o.name() {
			t.Errorf("-transport %s: %v", o.name(), err)
			continue
		}
		if unknown == nil || !strings.Contains(unknown.Error(), o.name()) {
			t.Errorf("%v does not allow %s", unknown, o.name())
		}
		log := logrus.New()
		log.SetOutput(io.Discard)
		if _, err := c.NewOutput(c.Outputs[0], OutputDeps{Stdout: os.Stdout, Log: log, Reg: prometheus.NewRegistry()}); err != nil {
			t.Errorf("%s: %v", o.name(), err)
		}
	}
}

func TestFlagsDoc(t *testing.T) {
	const name = "../../docs/flags.md"
	want := flagsDoc()
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/flags.md is not what the flags say; run: go test ./internal/config -run TestFlagsDoc -update")
	}
}

// TestChartFlagsDoc: the chart refuses keys of its value config that the program would refuse.
// With -update it writes the list of those that there are.
func TestChartFlagsDoc(t *testing.T) {
	const name = "../../charts/goflow2-kube-enricher/files/flags.txt"
	var names []string
	for _, o := range options(outputTypes()) {
		if !o.commandLine && o.name != "config" {
			names = append(names, o.name)
		}
	}
	slices.Sort(names)
	want := strings.Join(names, "\n") + "\n"
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("the chart's files/flags.txt is not what the flags are; run: go test ./internal/config -run TestChartFlagsDoc -update")
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := func(string) error { return nil }
	capture := "../../testdata/captures/softflowd-v9.pcap"
	zipped := write(t, "any name", "\x1f\x8b\x08\x00")
	tests := []struct {
		name     string
		c        Config
		snapshot func(string) error
		want     string
	}{
		{"nothing", Config{}, good, ""},
		{"snapshot", Config{KubeSnapshot: there}, good, ""},
		{"bad snapshot", Config{KubeSnapshot: "x"}, func(f string) error { return errors.New(f + ":3: broken\nYAML") }, "-kube.snapshot: x:3: broken YAML"},
		{"kubeconfig", Config{Kubeconfig: there}, good, ""},
		{"no kubeconfig", Config{Kubeconfig: filepath.Join(dir, "no")}, good, "-kubeconfig: stat " + dir + "/no: no such file or directory"},
		{"output", Config{types: []outputType{&fileOutput{path: filepath.Join(dir, "new")}}}, good, ""},
		{"output, exists", Config{types: []outputType{&fileOutput{path: there}}}, good, ""},
		{"output, device", Config{types: []outputType{&fileOutput{path: os.DevNull}}}, good, ""},
		{"output, no directory", Config{types: []outputType{&fileOutput{path: filepath.Join(dir, "no", "new")}}}, good, `-transport.file: directory of "` + dir + `/no/new": stat ` + dir + `/no: no such file or directory`},
		{"output, is a directory", Config{types: []outputType{&fileOutput{path: dir}}}, good, `-transport.file: "` + dir + `" is a directory; give a file in it`},
		{"output, in a file", Config{types: []outputType{&fileOutput{path: there + "/new"}}}, good, `-transport.file: stat ` + there + `/new: not a directory`},
		{"Hubble, no certificate", Config{Hubble: Hubble{Addr: ":0", Cert: "x", Key: there}}, good, "-hubble.tls: certificate x with key " + there + ": open x: no such file or directory"},
		{"captures", Config{Files: []string{capture, zipped, os.DevNull}}, good, ""},
		{"no capture", Config{Files: []string{capture, filepath.Join(dir, "x.pcap")}}, good, "FILE " + dir + "/x.pcap: no such file or directory"},
		{"capture, directory", Config{Files: []string{dir}}, good, "FILE " + dir + " is a directory; give a capture in it"},
		{"capture, empty", Config{Files: []string{write(t, "empty.pcap", "")}}, good, "/empty.pcap is empty; give a pcap or pcapng file, also compressed by gzip"},
		{"capture, JSON", Config{Files: []string{write(t, "flows.pcap", "{}\n")}}, good, "/flows.pcap is no capture but looks like JSON; give records on standard input: kube-enricher - < "},
		{"capture, short", Config{Files: []string{write(t, "short.cap", "\xa1\xb2")}}, good, "/short.cap is no capture: it begins with a1b2; give"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.c.Check(tt.snapshot)
			got := ""
			if err != nil {
				got = err.Error()
				oneLine(t, got)
			}
			// The directory of a file that the table made is not known there.
			if got != tt.want && (!strings.HasPrefix(tt.want, "/") || !strings.Contains(got, tt.want)) {
				t.Errorf("\ngot  %s\nwant %s", got, tt.want)
			}
		})
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("check left files behind: %v, %v", entries, err)
	}
}

// write makes a file in a directory of the test's own.
func write(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// FuzzParse looks for command lines, environments and files that make parse
// panic, or fail with anything but one line that names what is wrong.
func FuzzParse(f *testing.F) {
	f.Add("-listen\x00flow://:2055?count=2&rcvbuf=65536", "KUBE_ENRICHER_ADDR=:80", "cluster: x\n", false)
	f.Add("-mapping=NextHop=Nxt\x00a.pcap", "KUBE_ENRICHER_PORT=udp://1.2.3.4:2055", "kube: {off: true, snapshot: \"\"}\n", true)
	f.Add("-", "KUBE_ENRICHER_LISEN=x\x00KUBE_ENRICHER_INPUT=json", "fields: [default, -SrcMac]\n<<: *a\n", true)
	f.Add("-h", "", "a: &a [*a]\n---\nb: c\n", true)
	file := filepath.Join(f.TempDir(), "c.yaml")
	f.Fuzz(func(t *testing.T, args, env, text string, pipe bool) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		environ := append(strings.Split(env, "\x00"), "KUBE_ENRICHER_CONFIG="+file)
		c, err := Parse(strings.Split(args, "\x00"), environ, pipe)
		var u *UsageError
		switch {
		case err == nil:
			if c == nil || c.Mode == Stdin && c.Files != nil || c.Mode == Capture && c.Files == nil {
				t.Errorf("%+v", c)
			}
		case errors.Is(err, flag.ErrHelp):
		case errors.As(err, &u):
			oneLine(t, u.text)
			if len(u.text) > 4096 {
				t.Errorf("%d bytes: %s", len(u.text), u.text)
			}
			if !regexp.MustCompile(`^(unknown flag |bad flag syntax: |-[a-z]|environment variable |FILE |` + regexp.QuoteMeta(file) + `)`).MatchString(u.text) {
				t.Errorf("names nothing: %s", u.text)
			}
		default:
			t.Errorf("%T: %v", err, err)
		}
	})
}

// TestFieldsRead asks for the fields that outputs, keys, the mapping and the filter read.
func TestFieldsRead(t *testing.T) {
	for _, tc := range []struct {
		args string
		want string
	}{
		{"-fields=SrcAddr", ""},
		{"-fields=default", ""},
		{"-fields=default,+InIfName", "InIfName"},
		{"-schema=netobserv -fields=Interfaces", "InIfName OutIfName"},
		{"-schema=v2 -fields=application_name", "ApplicationName"},
		{"-format=pb -fields=application_name", "ApplicationName"},
		{"-fields=SrcAddr -transport=kafka -transport.kafka.key=OutIfName", "OutIfName"},
		{"-fields=SrcAddr -transport.kafka.key=OutIfName -transport=file", "refused"},
		{"-fields=SrcAddr -mapping=PostNATSrcAddr=Nat", "PostNATSrcAddr"},
		{`-fields=SrcAddr -filter=IngressVrfName=="red"`, "IngressVrfName"},
	} {
		c, err := Parse(strings.Fields(tc.args), nil, false)
		if err != nil {
			if tc.want != "refused" {
				t.Errorf("%s: %v", tc.args, err)
			}
			continue
		}
		read := c.FieldsRead()
		var got []string
		for i := range flow.Fields {
			if f := &flow.Fields[i]; f.Own() && !f.Default && read.Has(f.ID) {
				got = append(got, f.Name)
			}
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: got %q, want %s", tc.args, got, tc.want)
		}
	}
}

// TestOpenTelemetryVariables reads those variables of OpenTelemetry's that stand for
// flags.
func TestOpenTelemetryVariables(t *testing.T) {
	for name, tt := range map[string]struct {
		args, env []string
		got       func(o *otlpOutput) bool
	}{
		"none": {nil, nil, func(o *otlpOutput) bool {
			return o.Address == "localhost:4317" && !o.UseTLS && fmt.Sprint(o.Resource) == "[[service.name kube-enricher]]"
		}},
		"HTTP": {[]string{"-transport.otlp.protocol=http"}, nil, func(o *otlpOutput) bool { return o.URL.String() == "http://localhost:4318/v1/logs" }},
		"all": {nil, []string{
			"OTEL_EXPORTER_OTLP_ENDPOINT=https://c", "OTEL_EXPORTER_OTLP_HEADERS=api-key=a%20b", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip", "OTEL_EXPORTER_OTLP_TIMEOUT=1500",
			"OTEL_EXPORTER_OTLP_CERTIFICATE=/ca", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=/cert", "OTEL_EXPORTER_OTLP_CLIENT_KEY=/key",
		}, func(o *otlpOutput) bool {
			return o.Address == "c:4317" && o.UseTLS && len(o.Headers) == 1 && o.Compression == "gzip" && o.Timeout == 1500*time.Millisecond && o.TLS == transport.TLSFiles{CA: "/ca", Cert: "/cert", Key: "/key"}
		}},
		"those for logs come first": {nil, []string{
			"OTEL_EXPORTER_OTLP_ENDPOINT=http://a:1", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=http://b:2/x", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL=http/protobuf",
		}, func(o *otlpOutput) bool { return o.URL.String() == "http://b:2/x" }},
		"the general endpoint gets a path": {nil, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://a:1/base/", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}, func(o *otlpOutput) bool {
			return o.URL.String() == "http://a:1/base/v1/logs"
		}},
		"the general endpoint with a query": {nil, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://a:1?x=y", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}, func(o *otlpOutput) bool {
			return o.URL.String() == "http://a:1/v1/logs?x=y"
		}},
		"the endpoint for logs is as it is": {nil, []string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=http://a:1", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}, func(o *otlpOutput) bool {
			return o.URL.String() == "http://a:1"
		}},
		"an address for logs": {nil, []string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=a:1", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}, func(o *otlpOutput) bool {
			return o.URL.String() == "http://a:1/v1/logs"
		}},
		"a URL without a path": {[]string{"-transport.otlp.protocol=http", "-transport.otlp.endpoint=http://a:1"}, nil, func(o *otlpOutput) bool {
			return o.URL.String() == "http://a:1/v1/logs"
		}},
		"an address for HTTP": {[]string{"-transport.otlp.protocol=http", "-transport.otlp.endpoint=a:1"}, nil, func(o *otlpOutput) bool {
			return o.URL.String() == "http://a:1/v1/logs"
		}},
		"a URL with a path": {[]string{"-transport.otlp.protocol=http", "-transport.otlp.endpoint=http://a:1/"}, nil, func(o *otlpOutput) bool {
			return o.URL.String() == "http://a:1/"
		}},
		"flags come first": {[]string{"-transport.otlp.endpoint=f:1", "-transport.otlp.timeout=2s"}, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://a:1", "OTEL_EXPORTER_OTLP_TIMEOUT=5"}, func(o *otlpOutput) bool {
			return o.Address == "f:1" && o.Timeout == 2*time.Second
		}},
		"insecure":             {nil, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=c:1", "OTEL_EXPORTER_OTLP_INSECURE=True"}, func(o *otlpOutput) bool { return !o.UseTLS }},
		"not insecure":         {nil, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=c:1", "OTEL_EXPORTER_OTLP_INSECURE=false"}, func(o *otlpOutput) bool { return o.UseTLS }},
		"not insecure, flag":   {[]string{"-transport.otlp.endpoint=c:1"}, []string{"OTEL_EXPORTER_OTLP_INSECURE=false"}, func(o *otlpOutput) bool { return o.UseTLS }},
		"not insecure, logs":   {nil, []string{"OTEL_EXPORTER_OTLP_INSECURE=true", "OTEL_EXPORTER_OTLP_LOGS_INSECURE=FALSE"}, func(o *otlpOutput) bool { return o.UseTLS }},
		"not insecure, no TLS": {[]string{"-transport.otlp.tls=false"}, []string{"OTEL_EXPORTER_OTLP_INSECURE=false"}, func(o *otlpOutput) bool { return !o.UseTLS }},
		"insecure, of no use":  {[]string{"-transport.otlp.tls"}, []string{"OTEL_EXPORTER_OTLP_INSECURE=1"}, func(o *otlpOutput) bool { return o.UseTLS }},
		"insecure, TLS":        {[]string{"-transport.otlp.tls"}, []string{"OTEL_EXPORTER_OTLP_INSECURE=true"}, func(o *otlpOutput) bool { return o.UseTLS }},
		"insecure, https":      {nil, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=https://c:1", "OTEL_EXPORTER_OTLP_INSECURE=true"}, func(o *otlpOutput) bool { return o.UseTLS }},
		"not insecure, http":   {nil, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1", "OTEL_EXPORTER_OTLP_INSECURE=false"}, func(o *otlpOutput) bool { return !o.UseTLS }},
		"not insecure, HTTP": {[]string{"-transport.otlp.protocol=http", "-transport.otlp.endpoint=c:1"}, []string{"OTEL_EXPORTER_OTLP_INSECURE=false"}, func(o *otlpOutput) bool {
			return o.URL.Scheme == "http"
		}},
		"resource": {[]string{"-cluster=east"}, []string{"OTEL_RESOURCE_ATTRIBUTES=service.name=x, deployment.environment.name=a%2Cb", "OTEL_SERVICE_NAME=flows"}, func(o *otlpOutput) bool {
			return fmt.Sprint(o.Resource) == "[[service.name flows] [deployment.environment.name a,b] [k8s.cluster.name east]]"
		}},
	} {
		c, err := Parse(append([]string{"-transport", "otlp"}, tt.args...), tt.env, false)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if o := otlpOf(c); !tt.got(o) || o.URL != nil && !strings.HasPrefix(o.URL.RequestURI(), "/") {
			t.Errorf("%s: %+v", name, o.OTLPConfig)
		}
	}
	// So do their files.
	there := write(t, "cert.pem", "x")
	for _, tt := range []struct{ name, value, want string }{
		{"CERTIFICATE", "/none", "open /none: no such file or directory"},
		{"LOGS_CERTIFICATE", "/none", "open /none: no such file or directory"},
		{"CLIENT_KEY", "/none", "certificate " + there + " with key /none: open /none: no such file or directory"},
		{"HEADERS", "a=${file:/none}", "header A: open /none: no such file or directory"},
	} {
		env := []string{"OTEL_EXPORTER_OTLP_" + tt.name + "=" + tt.value}
		args := []string{"-transport", "otlp", "-transport.otlp.tls"}
		if tt.name == "CLIENT_KEY" {
			args = append(args, "-transport.otlp.tls.cert", there)
		}
		c, err := Parse(args, env, false)
		if err != nil {
			t.Fatal(err)
		}
		want := "environment variable OTEL_EXPORTER_OTLP_" + tt.name + ": " + tt.want
		if _, err = c.NewOutput(c.Outputs[0], OutputDeps{Log: logrus.New(), Reg: prometheus.NewRegistry()}); err == nil || err.Error() != want {
			t.Errorf("\ngot  %v\nwant %s", err, want)
		}
	}
	// Without -transport otlp they are somebody else's.
	if _, err := Parse(nil, []string{"OTEL_EXPORTER_OTLP_TIMEOUT=nonsense"}, false); err != nil {
		t.Error(err)
	}
}
