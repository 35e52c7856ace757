package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/internal/recent"
)

// option describes one flag.
type option struct {
	name  string
	group string // the heading that the option is listed under
	arg   string // what the value is, for the usage; empty for a boolean flag
	def   string // the default, as it would be given
	usage string // for the usage and docs/flags.md; backquotes mark code
	// commandLine reports whether the option is for the command line only: no variable and
	// no key of the file sets it.
	commandLine bool
	// writes says what the program writes to the file that the option names, such as
	// "the records"; empty if it writes to none.
	writes string
	// set takes the value over into the configuration. It is called at most once.
	// Its error says what is allowed, without naming the flag.
	set func(c *Config, v string) error
}

// env returns the name of the environment variable that sets the option, empty if there
// is none.
func (o *option) env() string {
	if o.commandLine {
		return ""
	}
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(o.name))
}

// options returns the whole table of options, in the order of the usage. The
// options of outputs fill in types, the others the [Config] that they are given.
func options(types []outputType) []option {
	table := slices.Concat(
		inGroup("Input", inputOptions()),
		inGroup("Records", slices.Concat(recordOptions(types), shortFilterOptions())),
		inGroup(groupOutput, outputOptions(types)),
	)
	for _, t := range types {
		table = append(table, t.options()...)
	}
	return slices.Concat(table,
		inGroup("Kubernetes", kubeOptions()),
		inGroup("OVN", ovnOptions()),
		inGroup("HTTP", httpOptions()),
		inGroup("Hubble", hubbleOptions()),
		inGroup("Program", programOptions()),
	)
}

// groupOutput is the group of the options that all outputs have. Those of one
// output are in this group, too, or in one of their own.
const groupOutput = "Output"

// inGroup puts options into a group.
func inGroup(name string, options []option) []option {
	for i := range options {
		options[i].group = name
	}
	return options
}

// groups returns the groups of options, in the order of the table.
func groups(options []option) []string {
	var names []string
	for i := range options {
		if !slices.Contains(names, options[i].group) {
			names = append(names, options[i].group)
		}
	}
	return names
}

// inputOptions returns the options of what comes in.
func inputOptions() []option {
	return []option{
		{
			name: "listen", arg: "URL,...", def: "netflow://:2055,sflow://:6343",
			usage: "where exporters send to, as `SCHEME://[HOST]:PORT`: scheme `netflow` (v1, v5, v7, v9, IPFIX), `sflow` or `flow` (any of them); " +
				"`?count=N` is the number of sockets that share the port (default: one per core, at most 4), `?rcvbuf=BYTES` the size of their buffers (default: 8 MiB). " +
				"In captures, datagrams to other ports are decoded too if they look like flow exports",
			set: func(c *Config, v string) (err error) { c.Listen, err = collector.ParseListen(v); return err },
		},
		{
			name: "input", arg: "FORMAT", def: "auto",
			usage: "format of standard input: `json` (lines), `protobuf` (goflow2's messages with length prefix), `capture` (pcap or pcapng, also compressed by gzip), or `auto` to detect it from the first bytes",
			set:   oneOf(func(c *Config) *string { return &c.Input }, "auto", "json", "protobuf", "capture"),
		},
		{
			name: "allow", arg: "CIDR,...",
			usage: "networks that may export to us, such as `10.244.0.0/16,fd00::/8`; empty for everyone. Datagrams of others are dropped and counted",
			set:   prefixes(func(c *Config) *[]netip.Prefix { return &c.Allow }),
		},
		{
			name: "sampling", arg: "CIDR=RATE,...",
			usage: "sampling rate of exporters that don't send one, by their network: `10.0.0.0/8=400` is one packet in 400. The longest matching network counts",
			set:   setSampling,
		},
		{
			name: "templates.file", arg: "FILE", writes: "templates",
			usage: "where NetFlow v9 and IPFIX templates and sampling rates are kept across restarts; empty for nowhere",
			set:   path(func(c *Config) *string { return &c.TemplatesFile }, "give a file"),
		},
		{
			name: "templates.hold", arg: "DURATION", def: "15m",
			usage: "how long data sets whose template is unknown are held for it, within `-templates.hold-size`; `0s` for not at all",
			set:   duration(func(c *Config) *time.Duration { return &c.TemplatesHold }),
		},
		{
			name: "templates.hold-size", arg: "SIZE", def: "8MiB",
			usage: "room for the data sets of one exporter that are held, in bytes or with KiB, MiB or GiB. Ten minutes of 50 records of Open vSwitch a second fit. All exporters together have 256 MiB, those behind one address half of it",
			set:   size(func(c *Config) *int64 { return &c.TemplatesHoldSize }, 1, collector.MaxHold),
		},
	}
}

// recordOptions returns the options of what is written of each record.
func recordOptions(types []outputType) []option {
	return []option{
		{
			name: "mapping", arg: "FIELD=PREFIX,...", def: "SrcAddr=Src,DstAddr=Dst",
			usage: "which address fields are looked up, and the prefix of the fields that are generated for each: `SrcAddr=Src` makes `SrcPod`, `SrcNamespace` and so on. " +
				"Any address field may be named, in either naming style (`NextHop=Nxt`, `sampler_address=Sampler`)",
			set: func(c *Config, v string) (err error) { c.Mapping, err = flow.ParseMapping(v); return err },
		},
		{
			name: "schema", arg: "NAME", def: "v1",
			usage: "names and renderings of the fields in JSON: `v1`, `v2` (as goflow2 v2 writes them) or `netobserv` (as NetObserv's flowlogs-pipeline does). docs/fields.md compares them",
			set:   oneOf(func(c *Config) *string { return &c.Schema }, encode.Schemas...),
		},
		{
			name: "fields", arg: "LIST", def: "default",
			usage: "which fields are written: `default`, `all`, or a list such as `default,+TimeFlowStartNs,+SrcNode,-SrcMac`. docs/fields.md lists them. Lines of text take only what is added by `+`",
			set:   func(c *Config, v string) error { c.Fields = v; return nil }, // checked by finish, with the schema
		},
		{
			name: "fields.elements", arg: "FILE",
			usage: "YAML file of further elements of NetFlow v9 and IPFIX that become fields: a list of `{name: NAME, id: N, pen: N, type: TYPE}`, `pen` being 0 if it is left out, `TYPE` one of `uint`, `string`, `ipaddr`, `mac`, `hex`. " +
				"They are in records that carry the element, under this name in all schemas, unless `-fields` removes one (`-NAME`)",
			set: path(func(c *Config) *string { return &c.ElementsFile }, "give a file"),
		},
		{
			name: "format", arg: "NAME", def: "json",
			usage: "how records are written: `json` (one object a line), `protobuf` (also `pb`, `bin`; flow/flow.proto, each message with its length before it) or `text` (a line for people to read; on a terminal with colours, unless `NO_COLOR` is set, and within its width). For several transports, `TRANSPORT:FORMAT,...` if they differ",
			set:   setFormat(types),
		},
		{
			name: "cluster", arg: "NAME",
			usage: "adds a field `Cluster` with this value to each record",
			set:   setCluster,
		},
		{
			name: "filter", arg: "EXPR",
			usage: "writes only the records for which this is true, such as `SrcNamespace == \"prod\" && Bytes > 1000`; the others are counted. docs/filter.md describes the language",
			set:   func(c *Config, v string) error { c.FilterText = v; return nil }, // compiled by finish, which knows the names
		},
	}
}

// outputOptions returns the option that chooses outputs.
func outputOptions(types []outputType) []option {
	names := typeNames(types)
	return []option{
		{
			name: "transport", arg: "NAME,...", def: names[0],
			usage: "where records go: one or more of `" + strings.Join(names, "`, `") + "`, each with its format if that is not the same for all: `" + severalOutputs + "`. " +
				"Each has its own buffer; if one stalls, the others go on",
			set: setTransport(types),
		},
	}
}

// kubeOptions returns the options of where names come from.
func kubeOptions() []option {
	return []option{
		{
			name: "kubeconfig", arg: "FILE",
			usage: "how to reach the cluster. If it is not given: `KUBECONFIG`, else the pod's service account, else `~/.kube/config`",
			set:   path(func(c *Config) *string { return &c.Kubeconfig }, "give a file"),
		},
		{
			name: "kube.snapshot", arg: "FILE",
			usage: "Kubernetes objects to use in place of a cluster, as `kubectl get pods,services,nodes,replicasets,jobs -A -o yaml` prints them (YAML, JSON, or several YAML documents). " +
				"SIGHUP reads it again",
			set: path(func(c *Config) *string { return &c.KubeSnapshot }, "give a file"),
		},
		{
			name: "kube.off", def: "false",
			usage: "don't enrich: records pass through as they are decoded",
			set:   boolean(func(c *Config) *bool { return &c.KubeOff }),
		},
		{
			name: "kube.sync-timeout", arg: "DURATION", def: "60s",
			usage: "how long to wait for the first full view of the cluster before records are written without names",
			set:   duration(func(c *Config) *time.Duration { return &c.KubeSyncTimeout }),
		},
		{
			name: "kube.retain", arg: "DURATION", def: "20m",
			usage: "how long a pod that was deleted or has finished still answers for flows of its lifetime. Make it longer than `-templates.hold`: data that was held that long may be of pods that have gone since",
			set:   duration(func(c *Config) *time.Duration { return &c.KubeRetain }),
		},
		{
			name: "kube.wait", arg: "DURATION", def: "2s",
			usage: "how long a record may wait for a pod that the cluster has not announced yet, if its address is in a node's pod range; `0s` for not at all. " +
				"Waiting records, those that wait for the first full view included, take at most 64 MiB; beyond that, the oldest go on without names. Captures, standard input and snapshots wait for nothing",
			set: duration(func(c *Config) *time.Duration { return &c.KubeWait }),
		},
		{
			name: "kube.namespaces", arg: "NAMESPACE,...",
			usage: "namespaces to list and watch, by a Role in each instead of a ClusterRole; empty for all. Nodes and egress IPs are not asked for then, so their addresses and zones are not named",
			set:   setNamespaces,
		},
		{
			name: "kube.owners", arg: "RESOURCE.GROUP,...",
			usage: "further resources whose objects may be the workload, however many owners are between them and the pod: `virtualmachines.kubevirt.io,services.serving.knative.dev`. Only their metadata is read, and that of what is between",
			set:   setOwners,
		},
		{
			name: "ovn.join-subnets", arg: "CIDR,...", def: "100.64.0.0/16,fd98::/64",
			usage: "subnets in which OVN-Kubernetes' gateway routers have their addresses, empty for none; the annotation `k8s.ovn.org/node-id` of a node is the host part",
			set:   prefixes(func(c *Config) *[]netip.Prefix { return &c.JoinSubnets }),
		},
		{
			name: "networks", arg: "FILE",
			usage: "YAML file of `CIDR: label`, or CSV (`FILE.csv`) of `CIDR,label`: labels for addresses that nobody in the cluster has, by longest match, as `PSubnetLabel` and in the traffic metrics. SIGHUP reads it again, and so does a new file in its place",
			set:   path(func(c *Config) *string { return &c.Networks }, "give a file"),
		},
		{
			name: "geoip", arg: "FILE,...",
			usage: "databases in the format mmdb, of countries, cities or ASNs: `PCountry` and `PASName` of addresses that nobody in the cluster has, and `SrcAS` and `DstAS` where the exporter sends none. They are kept in memory. SIGHUP reads them again, and so do new files in their place",
			set:   setFiles(func(c *Config) *[]string { return &c.GeoIP }),
		},
		{
			name: "kube.labels", arg: "LABEL=FIELD,...",
			usage: "pod labels to copy, each with the name of its field after the prefix: `app.kubernetes.io/name=App` makes `SrcApp` and `DstApp` where the pod has the label. In protobuf they are in the maps `src_labels` and `dst_labels`, by the name of the field",
			set:   func(c *Config, v string) (err error) { c.KubeLabels, err = flow.ParseLabels(v); return err },
		},
	}
}

// httpOptions returns the options of probes, metrics and debugging.
func httpOptions() []option {
	return []option{
		{
			name: "addr", arg: "[HOST]:PORT", def: ":8080",
			usage: "HTTP address of `/livez`, `/readyz` and `/metrics`; empty for none. With captures or standard input, there is none unless this flag is given",
			set:   address(func(c *Config) *string { return &c.Addr }),
		},
		{
			name: "debug.addr", arg: "[HOST]:PORT",
			usage: "HTTP address of `/explain?addr=IP&time=RFC3339` (who owned an address, and why), `/templates`, `/exporters` and `/debug/pprof`; empty for none. These pages reveal data of the cluster, so use a loopback address, such as `127.0.0.1:8081`",
			set:   address(func(c *Config) *string { return &c.DebugAddr }),
		},
		{
			name: "ui.addr", arg: "[HOST]:PORT",
			usage: "HTTP address of the page that shows who talks to whom, and of its API (docs/api.md); empty for none. It asks nobody who they are, so use a loopback address, such as `127.0.0.1:8082`, or put a proxy in front that does. " +
				"After captures, the program stays until a signal. Not for standard input",
			set: address(func(c *Config) *string { return &c.UIAddr }),
		},
		{
			name: "recent", arg: "SIZE", def: "64MiB",
			usage: "room for the newest records, which the page and its API answer from, in bytes or with KiB, MiB or GiB; used only where one of them is on",
			set:   size(func(c *Config) *int64 { return &c.Recent }, recent.MinRoom, maxRecent),
		},
		{
			name: "metrics.workloads", arg: "N", def: "5000",
			usage: "how many pairs of workloads have series of their own in the traffic metrics (`kube_enricher_workload_bytes_total` and others); pairs with less traffic share one series. " +
				"`0` for no such metrics. They need `-addr` and names, and don't count records from standard input. docs/traffic-metrics.md describes them",
			set: setMetricsWorkloads,
		},
		{
			name: "metrics.zones", def: "false",
			usage: "labels `src_zone` and `dst_zone` on the traffic metrics, for who pays for traffic between zones",
			set:   boolean(func(c *Config) *bool { return &c.MetricsZones }),
		},
	}
}

// programOptions returns the options of the program as a whole.
func programOptions() []option {
	return []option{
		{
			name: "drain-timeout", arg: "DURATION", def: "10s",
			usage: "how long the program may take to write what it has received after a signal to stop; the rest is dropped and counted",
			set:   duration(func(c *Config) *time.Duration { return &c.DrainTimeout }),
		},
		{
			name: "summary", def: "true",
			usage: "after captures and standard input, print a summary if standard error is a terminal: records by protocol, how many have names, the exporters, the pairs with most bytes, and what was dropped",
			set:   boolean(func(c *Config) *bool { return &c.Summary }),
		},
		{
			name: "huge-pages", def: "true",
			usage: "move the heap into huge pages once the cluster is known, on Linux: look-ups among many pods are faster then",
			set:   boolean(func(c *Config) *bool { return &c.HugePages }),
		},
		{
			name: "loglevel", arg: "LEVEL", def: "info",
			usage: "least severe log messages that are shown: `panic`, `fatal`, `error`, `warning`, `info`, `debug` or `trace`",
			set:   setLogLevel,
		},
		{
			name: "logfmt", arg: "FORMAT", def: "normal",
			usage: "log messages as `normal` text or as `json`",
			set:   setLogFormat,
		},
		{
			name: "config", arg: "FILE",
			usage: "YAML file of flags",
			set:   path(func(c *Config) *string { return &c.ConfigFile }, "give a file"),
		},
		{
			name: "check", def: "false",
			usage: "check all settings and the files that they name, report what is wrong, and exit",
			set:   boolean(func(c *Config) *bool { return &c.CheckOnly }),
		},
		{
			name: "check.live", def: "false",
			usage: "with `-check`: also contact the cluster and ask for rights, read the kernel's limit of receive buffers, try the ports, OVN's databases and the outputs, and print a table. What would keep the program from working ends it with exit code 1",
			set:   boolean(func(c *Config) *bool { return &c.CheckLive }),
		},
		{
			name: "check.ready", arg: "URL",
			usage: "with `-check`: also ask a program that runs whether it is ready, by its `/readyz`, for up to 30 s. Exit code 1 if it is not",
			set:   setCheckReady,
		},
		{
			name: "v", def: "false",
			usage: "print the versions of the program, of goflow2 and of Go, and exit; also `-version`, or `version` alone, as `help` alone is `-h`",
			set:   boolean(func(c *Config) *bool { return &c.ShowVersion }),
		},
	}
}
