package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
	"go.yaml.in/yaml/v3"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/internal/filter"
	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// envPrefix begins the name of every environment variable that sets a flag.
const envPrefix = "KUBE_ENRICHER_"

// mode is where records come from.
type mode uint8

const (
	modeCollect mode = iota // exporters, over UDP, until a signal
	modeCapture             // capture files
	modeStdin               // goflow2's output on standard input
)

// config is what flags, environment and configuration file ask for, checked
// and with defaults filled in.
type config struct {
	mode  mode
	files []string // the captures of modeCapture
	// stdinImplied says that nobody asked for modeStdin: standard input is a
	// pipe and nothing else was named. Worth a line in the log.
	stdinImplied bool

	listen []collector.Listener
	input  string // auto, json or protobuf

	allow         []netip.Prefix           // empty: everyone
	sampling      []collector.SamplingRule // empty: as exporters say
	templatesFile string                   // empty: templates are not kept
	templatesHold time.Duration            // 0: data without template is dropped
	drainTimeout  time.Duration

	mapping []flow.MapEntry
	// textOnly says that the last entry of mapping is there for the format text
	// alone.
	textOnly bool
	schema   string // one of encode.Schemas
	fields   string
	color    bool   // of text; set by run
	cluster  string // empty: no field Cluster
	// filterText is what filter was made of; empty: every record is wanted, and
	// filter is nil.
	filterText string
	filter     *filter.Filter

	// transport and format are as given, outputs what comes of the two.
	transport, format []outputConfig
	outputs           []outputConfig
	transportFile     string // empty: standard output
	kafka             transport.KafkaConfig
	kafkaKey          string
	kafkaHashing      bool

	kubeconfig      string        // empty: the usual places
	kubeSnapshot    string        // empty: a cluster
	kubeOff         bool          // no enrichment at all
	kubeSyncTimeout time.Duration // 0: don't wait
	kubeRetain      time.Duration // 0: pods that have ended answer no more
	kubeWait        time.Duration // 0: no record waits for its pod
	kubeLabels      []flow.Label

	addr      string // empty: no probes and metrics
	debugAddr string // empty: none
	// metricsWorkloads bounds the series of traffic between workloads; 0: none.
	metricsWorkloads int

	logLevel logrus.Level
	logJSON  bool

	configFile  string
	checkOnly   bool // validate, don't start
	showVersion bool // print versions, do nothing else
}

// usageError is a mistake in how the program was started. It is one line that
// names the flag and says what is allowed; the program ends with exit code 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) *usageError {
	// Texts of other packages' errors are in here, and they may be of several
	// lines or show what the user typed as it is.
	line := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...))
	return &usageError{strings.Join(strings.Fields(line), " ")}
}

// option describes one flag. Parsing, usage and docs/flags.md are all made
// from the table of options, so that they cannot disagree.
type option struct {
	name  string
	group string
	arg   string // what the value is, for the usage; empty for a boolean flag
	def   string // the default, as it would be given
	usage string // for the usage and docs/flags.md; backquotes mark code
	// set takes the value over into the configuration. Its error says what is
	// allowed, without naming the flag.
	set func(c *config, v string) error
}

// env returns the name of the environment variable that sets the option.
func (o *option) env() string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(o.name))
}

// The groups of options, in the order of the usage.
const (
	groupInput   = "Input"
	groupRecords = "Records"
	groupOutput  = "Output"
	groupKafka   = "Kafka"
	groupKube    = "Kubernetes"
	groupHTTP    = "HTTP"
	groupProgram = "Program"
)

var groups = []string{groupInput, groupRecords, groupOutput, groupKafka, groupKube, groupHTTP, groupProgram}

// options returns the table of options, by group.
func options() []option {
	return slices.Concat(inputOptions(), kafkaOptions(), otherOptions())
}

// inputOptions returns the options of input, records and outputs, but for
// Kafka's.
func inputOptions() []option {
	return []option{
		{
			name: "listen", group: groupInput, arg: "URL,...", def: "netflow://:2055,sflow://:6343",
			usage: "where exporters send to, as `SCHEME://[HOST]:PORT`: scheme `netflow` (v1, v5, v7, v9, IPFIX), `sflow` or `flow` (any of them); " +
				"`?count=N` is the number of sockets that share the port (default: one per core, at most 4), `?rcvbuf=BYTES` the size of their buffers (default: 8 MiB). " +
				"In captures, datagrams to other ports are taken too if they look like flow exports",
			set: func(c *config, v string) (err error) { c.listen, err = collector.ParseListen(v); return err },
		},
		{
			name: "input", group: groupInput, arg: "FORMAT", def: "auto",
			usage: "what comes in on standard input: `json` (lines), `protobuf` (goflow2's messages with length prefix), or `auto` to tell from the first bytes",
			set:   oneOf(func(c *config) *string { return &c.input }, "auto", "json", "protobuf"),
		},
		{
			name: "allow", group: groupInput, arg: "CIDR,...",
			usage: "networks that may export to us, such as `10.244.0.0/16,fd00::/8`; empty for everyone. Datagrams of others are dropped and counted",
			set:   setAllow,
		},
		{
			name: "sampling", group: groupInput, arg: "CIDR=RATE,...",
			usage: "sampling rate of exporters that don't send one, by their network: `10.0.0.0/8=400` is one packet in 400. The longest network counts",
			set:   setSampling,
		},
		{
			name: "templates.file", group: groupInput, arg: "FILE",
			usage: "where NetFlow v9 and IPFIX templates and sampling rates are kept across restarts; empty for nowhere",
			set:   path(func(c *config) *string { return &c.templatesFile }, "give a file"),
		},
		{
			name: "templates.hold", group: groupInput, arg: "DURATION", def: "15m",
			usage: "how long data sets whose template is unknown are held for it, within 1 MiB an exporter and 64 MiB in all; `0s` for not at all",
			set:   duration(func(c *config) *time.Duration { return &c.templatesHold }),
		},
		{
			name: "mapping", group: groupRecords, arg: "FIELD=PREFIX,...", def: "SrcAddr=Src,DstAddr=Dst",
			usage: "which address fields are looked up, and the prefix of the fields that are generated for each: `SrcAddr=Src` makes `SrcPod`, `SrcNamespace` and so on. " +
				"Any address field may be named, in either naming style (`NextHop=Nxt`, `sampler_address=Sampler`)",
			set: func(c *config, v string) (err error) { c.mapping, err = flow.ParseMapping(v); return err },
		},
		{
			name: "schema", group: groupRecords, arg: "NAME", def: "v1",
			usage: "names and renderings of the fields in JSON: `v1`, `v2` (as goflow2 v2 writes them) or `netobserv` (as NetObserv's flowlogs-pipeline does). docs/fields.md compares them",
			set:   oneOf(func(c *config) *string { return &c.schema }, encode.Schemas...),
		},
		{
			name: "fields", group: groupRecords, arg: "LIST", def: "default",
			usage: "which fields are written: `default`, `all`, or a list such as `default,+TimeFlowStartNs,+SrcNode,-SrcMac`. docs/fields.md lists them",
			set:   func(c *config, v string) error { c.fields = v; return nil }, // checked by finish, with the schema
		},
		{
			name: "format", group: groupRecords, arg: "NAME", def: "json",
			usage: "how records are written: `json` (one object a line), `protobuf` (also `pb`, `bin`; flow/flow.proto, each message with its length before it) or `text` (a line for people to read, with colours on a terminal unless `NO_COLOR` is set). For several transports, `TRANSPORT:FORMAT,...` if they differ",
			set:   setFormat,
		},
		{
			name: "cluster", group: groupRecords, arg: "NAME",
			usage: "adds a field `Cluster` with this value to each record",
			set:   setCluster,
		},
		{
			name: "filter", group: groupRecords, arg: "EXPR",
			usage: "writes only the records for which this is true, such as `SrcNamespace == \"prod\" && Bytes > 1000`; the others are counted. docs/filter.md describes the language",
			set:   func(c *config, v string) error { c.filterText = v; return nil }, // compiled by finish, which knows the names
		},
		{
			name: "transport", group: groupOutput, arg: "NAME,...", def: transportFile,
			usage: "where records go: `file`, `kafka`, or both, each with its format if that is not the same for all: `file:json,kafka:protobuf`. Each has its own buffer; one that stalls does not hold the other",
			set:   setTransport,
		},
		{
			name: "transport.file", group: groupOutput, arg: "FILE",
			usage: "file that records are appended to; empty for standard output. SIGHUP reopens it",
			set:   path(func(c *config) *string { return &c.transportFile }, "leave it empty for standard output"),
		},
	}
}

// otherOptions returns the options behind those of outputs.
func otherOptions() []option {
	return []option{
		{
			name: "kubeconfig", group: groupKube, arg: "FILE",
			usage: "how to reach the cluster. If it is not given: `KUBECONFIG`, else the pod's service account, else `~/.kube/config`",
			set:   path(func(c *config) *string { return &c.kubeconfig }, "give a file"),
		},
		{
			name: "kube.snapshot", group: groupKube, arg: "FILE",
			usage: "Kubernetes objects to use in place of a cluster, as `kubectl get pods,services,nodes,replicasets,jobs -A -o yaml` prints them (YAML, JSON, or several YAML documents). " +
				"SIGHUP reads it again",
			set: path(func(c *config) *string { return &c.kubeSnapshot }, "give a file"),
		},
		{
			name: "kube.off", group: groupKube, def: "false",
			usage: "don't enrich: records pass through as they are decoded",
			set:   boolean(func(c *config) *bool { return &c.kubeOff }),
		},
		{
			name: "kube.sync-timeout", group: groupKube, arg: "DURATION", def: "60s",
			usage: "how long to wait for the first full view of the cluster before records are written without names",
			set:   duration(func(c *config) *time.Duration { return &c.kubeSyncTimeout }),
		},
		{
			name: "kube.retain", group: groupKube, arg: "DURATION", def: "20m",
			usage: "how long a pod that was deleted or has finished still answers for flows of its lifetime. Make it longer than `-templates.hold`: data that was held that long is of pods of that time",
			set:   duration(func(c *config) *time.Duration { return &c.kubeRetain }),
		},
		{
			name: "kube.wait", group: groupKube, arg: "DURATION", def: "2s",
			usage: "how long a record may wait for a pod that the cluster has not announced yet, if its address is of a node's pod range; `0s` for not at all. " +
				"What waits, for the first full view too, is bounded at 64 MiB, beyond which the oldest leave as they are. Captures, standard input and snapshots wait for nothing",
			set: duration(func(c *config) *time.Duration { return &c.kubeWait }),
		},
		{
			name: "kube.labels", group: groupKube, arg: "LABEL=FIELD,...",
			usage: "pod labels to copy, each with the name of its field behind the prefix: `app.kubernetes.io/name=App` makes `SrcApp` and `DstApp` where the pod has the label. In protobuf they are in the maps `src_labels` and `dst_labels`, by the name of the field",
			set:   func(c *config, v string) (err error) { c.kubeLabels, err = flow.ParseLabels(v); return err },
		},
		{
			name: "addr", group: groupHTTP, arg: "[HOST]:PORT", def: ":8080",
			usage: "HTTP address of `/livez`, `/readyz` and `/metrics`; empty for none. When captures or standard input are read, there is none unless it is given",
			set:   address(func(c *config) *string { return &c.addr }),
		},
		{
			name: "debug.addr", group: groupHTTP, arg: "[HOST]:PORT",
			usage: "HTTP address of `/explain?addr=IP&time=RFC3339` (who owned an address, and why), `/templates`, `/exporters` and `/debug/pprof`; empty for none. What it shows tells about the cluster, so it is meant for loopback, such as `127.0.0.1:8081`",
			set:   address(func(c *config) *string { return &c.debugAddr }),
		},
		{
			name: "metrics.workloads", group: groupHTTP, arg: "N", def: "5000",
			usage: "how many pairs of workloads have series of their own in the metrics of traffic, `kube_enricher_workload_bytes_total` and its like; those with less traffic share one. " +
				"`0` for no such metrics. They need `-addr` and names, and don't count what comes from standard input. docs/traffic-metrics.md says what is counted",
			set: setMetricsWorkloads,
		},
		{
			name: "drain-timeout", group: groupProgram, arg: "DURATION", def: "10s",
			usage: "how long writing out what was received may take when the program is told to stop; what is left is dropped and counted",
			set:   duration(func(c *config) *time.Duration { return &c.drainTimeout }),
		},
		{
			name: "loglevel", group: groupProgram, arg: "LEVEL", def: "info",
			usage: "least important log messages that are shown: `panic`, `fatal`, `error`, `warning`, `info`, `debug` or `trace`",
			set:   setLogLevel,
		},
		{
			name: "logfmt", group: groupProgram, arg: "FORMAT", def: "normal",
			usage: "log messages as `normal` text or as `json`",
			set:   setLogFormat,
		},
		{
			name: "config", group: groupProgram, arg: "FILE",
			usage: "YAML file of flags",
			set:   path(func(c *config) *string { return &c.configFile }, "give a file"),
		},
		{
			name: "check", group: groupProgram, def: "false",
			usage: "check all settings and the files that they name, say what is wrong, and exit",
			set:   boolean(func(c *config) *bool { return &c.checkOnly }),
		},
		{
			name: "v", group: groupProgram, def: "false",
			usage: "print the versions of the program, of goflow2 and of Go, and exit",
			set:   boolean(func(c *config) *bool { return &c.showVersion }),
		},
	}
}

// parse makes the configuration out of the command line without the program's
// name, the environment as os.Environ gives it, and the file that -config
// names. A flag beats the environment, and that beats the file. The error is a
// *usageError, or flag.ErrHelp if the usage was asked for.
func parse(args, env []string, stdinIsPipe bool) (*config, error) {
	p := parser{options: options(), given: make(map[string]setting), variables: make(map[string]string)}
	files, err := p.flags(args)
	if err != nil {
		return nil, err
	}
	if on, err := strconv.ParseBool(p.given["v"].value); err == nil && on {
		// Asked on the command line: nothing in the environment is worth an
		// error then.
		return &config{showVersion: true}, nil
	}
	if err := p.environment(env); err != nil {
		return nil, err
	}
	if name := p.given["config"].value; name != "" {
		if err := p.file(name); err != nil {
			return nil, err
		}
	}
	c := &config{files: files}
	for i := range p.options {
		o := &p.options[i]
		s, ok := p.given[o.name]
		if !ok {
			s.value = o.def
		}
		if o.arg == "" || s.value != "" || o.def != "" {
			if err := o.set(c, s.value); err != nil {
				return nil, usagef("%s: %v", s.flag(o.name), err)
			}
		}
	}
	if c.showVersion {
		return c, nil
	}
	return c, p.finish(c, stdinIsPipe)
}

// finish sets the mode and what follows from it, and refuses contradictions.
func (p *parser) finish(c *config, stdinIsPipe bool) error {
	listen, listenGiven := p.given["listen"]
	switch {
	case slices.Contains(c.files, "-"):
		if len(c.files) > 1 {
			return usagef("FILE -: standard input cannot be read together with other files; give - alone, or only captures")
		}
		if listenGiven {
			return usagef("%s: nothing is received when FILE is -; give one of the two", listen.flag("listen"))
		}
		c.mode, c.files = modeStdin, nil
	case len(c.files) > 0:
		c.mode = modeCapture
		for _, f := range c.files {
			if err := checkFileName(f); err != nil {
				return err
			}
		}
	case stdinIsPipe && !listenGiven:
		c.mode, c.stdinImplied = modeStdin, true
	}

	if c.mode != modeStdin && c.input != "auto" {
		return usagef("%s: %s is for standard input only (FILE -, or a pipe without -listen); leave it out", p.given["input"].flag("input"), quote(c.input))
	}
	if err := p.finishOutputs(c); err != nil {
		return err
	}
	if err := p.checkFormat(c); err != nil {
		return err
	}
	if err := p.checkFilter(c); err != nil {
		return err
	}
	if _, given := p.given["addr"]; !given && c.mode != modeCollect {
		// goflow2 at the other end of a pipe has :8080 already, and runs over
		// captures should not need a free port.
		c.addr = ""
	}
	if c.addr != "" && c.addr == c.debugAddr && !strings.HasSuffix(c.addr, ":0") {
		return usagef("%s: %s is the address of -addr too; give another port", p.given["debug.addr"].flag("debug.addr"), quote(c.debugAddr))
	}
	exclusive := func(a, b, advice string) error {
		return usagef("%s: cannot be used with %s; %s", p.given[a].flag(a), p.given[b].flag(b), advice)
	}
	switch {
	case c.kubeOff && c.kubeSnapshot != "":
		return exclusive("kube.off", "kube.snapshot", "give one of the two")
	case c.kubeOff && c.kubeconfig != "":
		return exclusive("kube.off", "kubeconfig", "give one of the two")
	case c.kubeSnapshot != "" && c.kubeconfig != "":
		return exclusive("kube.snapshot", "kubeconfig", "a snapshot is used in place of a cluster, give one of the two")
	}
	if c.transportFile != "" {
		for _, f := range append([]string{c.kubeSnapshot, c.kubeconfig, c.configFile}, c.files...) {
			if f != "" && filepath.Clean(f) == filepath.Clean(c.transportFile) {
				return usagef("%s: %s is read by this run; give another file for the records", p.given["transport.file"].flag("transport.file"), quote(f))
			}
		}
	}
	return nil
}

var captureSuffixes = []string{".pcap", ".pcapng", ".pcap.gz", ".pcapng.gz"}

func checkFileName(f string) error {
	for _, s := range captureSuffixes {
		if strings.HasSuffix(strings.ToLower(f), s) && !strings.HasPrefix(f, "-") {
			return nil
		}
	}
	if strings.HasPrefix(f, "-") {
		return usagef("FILE %s: flags go before the first FILE; write ./%s if it is a file", show(f), show(f))
	}
	return usagef("FILE %s: is no capture by its name; allowed are *%s, and - for standard input", quote(f), strings.Join(captureSuffixes, ", *"))
}

// check does the part of -check that parse leaves out because it takes a look
// at the files that are named. The snapshot, if there is one, is tried with
// the given function.
func (c *config) check(snapshot func(file string) error) error {
	if c.kubeSnapshot != "" {
		if err := snapshot(c.kubeSnapshot); err != nil {
			return usagef("-kube.snapshot: %v", err)
		}
	}
	if c.kubeconfig != "" {
		if err := readable(c.kubeconfig); err != nil {
			return usagef("-kubeconfig: %v", err)
		}
	}
	if c.transportFile != "" {
		if err := appendable(c.transportFile); err != nil {
			return usagef("-transport.file: %v", err)
		}
	}
	if c.templatesFile != "" {
		if err := appendable(c.templatesFile); err != nil {
			return usagef("-templates.file: %v", err)
		}
	}
	for _, f := range c.files {
		if err := readable(f); err != nil {
			return usagef("FILE %v", err)
		}
	}
	return nil
}

// readable says whether a file can be read.
func readable(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a directory; give a file", quote(name))
	}
	if !info.Mode().IsRegular() {
		return nil // opening a FIFO would wait for its other end
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return f.Close()
}

// appendable says whether the output file can be opened, without making it.
func appendable(name string) error {
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a directory; give a file in it", quote(name))
	case err == nil && !info.Mode().IsRegular():
		return nil
	case err == nil:
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		return f.Close()
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	dir := filepath.Dir(name)
	info, err = os.Stat(dir)
	if err != nil {
		return fmt.Errorf("directory of %s: %w", quote(name), err)
	}
	if !info.IsDir() {
		return fmt.Errorf("directory of %s: %s is no directory", quote(name), quote(dir))
	}
	f, err := os.CreateTemp(dir, ".kube-enricher-check-*")
	if err != nil {
		return fmt.Errorf("directory of %s: %w", quote(name), err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// isPipe says whether f is a pipe or FIFO: no terminal, no file, no /dev/null.
func isPipe(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeNamedPipe != 0
}

// setting is a value that was given for a flag.
type setting struct {
	value string
	from  string // where, unless on the command line
}

// flag names the flag that the setting is for, and where it was set.
func (s setting) flag(name string) string {
	if s.from == "" {
		return "-" + name
	}
	return "-" + name + " (from " + s.from + ")"
}

// parser collects what was given from the three places.
type parser struct {
	options []option
	given   map[string]setting // by name of the flag
	// variables are those of the environment that set no flag.
	variables map[string]string
}

func (p *parser) option(name string) *option {
	i := slices.IndexFunc(p.options, func(o option) bool { return o.name == name })
	if i < 0 {
		return nil
	}
	return &p.options[i]
}

// rawValue takes any value: they are all checked later, wherever they come
// from, so that they are all refused in the same words.
type rawValue struct {
	set  func(string)
	bool bool
}

func (v *rawValue) String() string     { return "" }
func (v *rawValue) Set(s string) error { v.set(s); return nil }
func (v *rawValue) IsBoolFlag() bool   { return v.bool }

// flags reads the command line and returns the FILEs.
func (p *parser) flags(args []string) ([]string, error) {
	fs := flag.NewFlagSet("kube-enricher", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	for _, o := range p.options {
		fs.Var(&rawValue{func(s string) { p.given[o.name] = setting{value: s} }, o.arg == ""}, o.name, o.usage)
	}
	err := fs.Parse(args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return fs.Args(), err
	}
	// The flag package has no error types. Should it change its words, its own
	// text is still one line that names the flag.
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		names := make([]string, len(p.options))
		for i, o := range p.options {
			names[i] = o.name
		}
		if near := nearest(name, names); near != "" {
			return nil, usagef("unknown flag -%s; did you mean -%s?", show(name), near)
		}
		return nil, usagef("unknown flag -%s; -h lists those that are allowed", show(name))
	}
	if name, ok := strings.CutPrefix(err.Error(), "flag needs an argument: -"); ok {
		return nil, usagef("-%s: needs a value, %s", name, p.option(name).arg)
	}
	return nil, usagef("%s; -h lists the flags", show(err.Error()))
}

// environment takes over the variables that set flags, unless the command line
// has set them.
func (p *parser) environment(env []string) error {
	byEnv := make(map[string]*option, len(p.options))
	for i := range p.options {
		byEnv[p.options[i].env()] = &p.options[i]
	}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) {
			p.variables[name] = value
			continue
		}
		o := byEnv[name]
		if o == nil {
			if serviceLink(name, value) {
				continue
			}
			names := make([]string, 0, len(byEnv))
			for n := range byEnv {
				names = append(names, n)
			}
			slices.Sort(names)
			if near := nearest(name, names); near != "" {
				return usagef("environment variable %s sets no flag; did you mean %s?", show(name), near)
			}
			return usagef("environment variable %s sets no flag; allowed are %s followed by a flag's name in upper case, with dots and dashes as _", show(name), envPrefix)
		}
		if _, ok := p.given[o.name]; !ok {
			p.given[o.name] = setting{value, "environment variable " + name}
		}
	}
	return nil
}

// Kubernetes sets variables for every Service of the namespace in all its
// containers. Those of Services whose names begin with kube-enricher look like
// ours. The names are those of Kubernetes' documentation of service
// environment variables ("Docker links compatible").
var (
	serviceHost  = regexp.MustCompile(`^KUBE_ENRICHER_(\w+_)?SERVICE_HOST$`)
	servicePort  = regexp.MustCompile(`^KUBE_ENRICHER_(\w+_)?SERVICE_PORT(_\w+)?$`)
	serviceURL   = regexp.MustCompile(`^KUBE_ENRICHER_(\w+_)?PORT$`)
	servicePorts = regexp.MustCompile(`^KUBE_ENRICHER_(\w+_)?PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?$`)
	linkURL      = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

func serviceLink(name, value string) bool {
	return serviceHost.MatchString(name) || servicePort.MatchString(name) || servicePorts.MatchString(name) ||
		// A person may well have meant this one to be the port to listen on.
		serviceURL.MatchString(name) && linkURL.MatchString(value)
}

// file takes over the settings of a YAML file, unless the command line or the
// environment has set them.
func (p *parser) file(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return usagef("%s: %v", p.given["config"].flag("config"), err)
	}
	inFile, err := p.yaml(name, data)
	if err != nil {
		return err
	}
	for name, s := range inFile {
		if _, ok := p.given[name]; !ok {
			p.given[name] = s
		}
	}
	return nil
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// yaml reads the settings of a file.
func (p *parser) yaml(name string, data []byte) (map[string]setting, error) {
	show := show(name)
	settings := make(map[string]setting)
	var doc yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return settings, nil // nothing but comments
	case err != nil:
		text := err.Error()
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			return nil, usagef("%s:%s: %s; -config takes a YAML file", show, m[1], text[len(m[0]):])
		}
		return nil, usagef("%s: %s; -config takes a YAML file", show, strings.TrimPrefix(text, "yaml: "))
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, usagef("%s: has more than one YAML document; -config takes one", show)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return settings, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, usagef("%s:%d: -config takes a YAML mapping, such as listen: flow://:2055", show, root.Line)
	}
	return settings, p.yamlMap(show, "", root, settings)
}

// yamlMap collects the settings of a mapping, whose keys continue the name
// that prefix begins.
func (p *parser) yamlMap(file, prefix string, node *yaml.Node, settings map[string]setting) error {
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := file + ":" + strconv.Itoa(key.Line)
		name := prefix + key.Value
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			return usagef("%s: a key is not a plain word; keys are names of flags", at)
		}
		if value.Kind == yaml.MappingNode && p.isPrefix(name+".") {
			if err := p.yamlMap(file, name+".", value, settings); err != nil {
				return err
			}
			continue
		}
		if p.option(name) == nil {
			return p.unknownKey(at, name)
		}
		if name == "config" {
			return usagef("%s: key config: a configuration file cannot name another; use the flag -config", at)
		}
		if _, ok := settings[name]; ok {
			return usagef("%s: key %s: is there twice; give it once", at, name)
		}
		v, err := yamlValue(value)
		if err != nil {
			return usagef("%s: key %s: %v", at, name, err)
		}
		settings[name] = setting{v, at}
	}
	return nil
}

// isPrefix says whether flags' names begin with s.
func (p *parser) isPrefix(s string) bool {
	return slices.ContainsFunc(p.options, func(o option) bool { return strings.HasPrefix(o.name, s) })
}

func (p *parser) unknownKey(at, name string) error {
	names := make([]string, len(p.options))
	for i, o := range p.options {
		names[i] = o.name
	}
	if near := nearest(name, names); near != "" {
		return usagef("%s: unknown key %s; did you mean %s?", at, quote(name), near)
	}
	return usagef("%s: unknown key %s; allowed are the names of flags, see -h", at, quote(name))
}

// yamlValue returns a scalar as it is written, or a list of them joined by
// commas.
func yamlValue(node *yaml.Node) (string, error) {
	switch {
	case node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null":
		return "", errors.New(`has no value; write "" if it is to be empty`)
	case node.Kind == yaml.ScalarNode:
		return node.Value, nil
	case node.Kind == yaml.SequenceNode:
		values := make([]string, len(node.Content))
		for i, n := range node.Content {
			if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
				return "", errors.New("has a list of something else than plain values; give plain values")
			}
			values[i] = n.Value
		}
		return strings.Join(values, ","), nil
	case node.Kind == yaml.AliasNode:
		return "", errors.New("is an alias; write the value out")
	}
	return "", errors.New("is a mapping; give a value or a list of values")
}

// The setters of options, whose errors say what is allowed.

func oneOf(field func(*config) *string, allowed ...string) func(*config, string) error {
	return func(c *config, v string) error {
		if !slices.Contains(allowed, v) {
			if len(allowed) == 1 {
				return fmt.Errorf("%s is not allowed; the only value is %s", quote(v), allowed[0])
			}
			return fmt.Errorf("%s is not allowed; give one of %s", quote(v), strings.Join(allowed, ", "))
		}
		*field(c) = v
		return nil
	}
}

func boolean(field func(*config) *bool) func(*config, string) error {
	return func(c *config, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("%s is not allowed; give true or false", quote(v))
		}
		*field(c) = b
		return nil
	}
}

// path takes the name of a file. A dash would be taken for one by mistake:
// standard input and output are not to be had this way.
func path(field func(*config) *string, advice string) func(*config, string) error {
	return func(c *config, v string) error {
		switch {
		case v == "-":
			return fmt.Errorf("- is not allowed; %s", advice)
		case strings.ContainsRune(v, 0):
			return fmt.Errorf("%s is no name of a file; %s", quote(v), advice)
		}
		*field(c) = v
		return nil
	}
}

func address(field func(*config) *string) func(*config, string) error {
	return func(c *config, v string) error {
		if v != "" {
			_, port, err := net.SplitHostPort(v)
			if err == nil {
				_, err = strconv.ParseUint(port, 10, 16)
			}
			if err != nil {
				return fmt.Errorf("%s is not allowed; give [HOST]:PORT with a port from 0 to 65535, or an empty value for none", quote(v))
			}
		}
		*field(c) = v
		return nil
	}
}

func setCluster(c *config, v string) error {
	if !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) {
		return fmt.Errorf("%s is not allowed; give a name in UTF-8 without control characters", quote(v))
	}
	c.cluster = v
	return nil
}

func duration(field func(*config) *time.Duration) func(*config, string) error {
	return func(c *config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return fmt.Errorf("%s is not allowed; give a duration such as 60s or 2m, or 0s for none", quote(v))
		}
		*field(c) = d
		return nil
	}
}

func setAllow(c *config, v string) error {
	for part := range strings.SplitSeq(v, ",") {
		p, err := prefix(part)
		if err != nil {
			return err
		}
		c.allow = append(c.allow, p)
	}
	return nil
}

func setSampling(c *config, v string) error {
	for part := range strings.SplitSeq(v, ",") {
		network, rate, ok := strings.Cut(part, "=")
		n, err := strconv.ParseUint(strings.TrimSpace(rate), 10, 32)
		if !ok || err != nil || n == 0 {
			return fmt.Errorf("%s is not allowed; give CIDR=RATE with a rate from 1 on, such as 10.0.0.0/8=400", quote(part))
		}
		p, err := prefix(network)
		if err != nil {
			return err
		}
		c.sampling = append(c.sampling, collector.SamplingRule{Exporters: p, Rate: n})
	}
	return nil
}

// prefix reads a network; a lone address is the network of that address. An
// IPv4-mapped one is IPv4, as exporters' addresses are.
func prefix(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if err != nil || p != p.Masked() {
		return p, fmt.Errorf("%s is not allowed; give networks such as 10.0.0.0/8 or fd00::/8, or addresses", quote(s))
	}
	return p, nil
}

// maxMetricsWorkloads bounds what a scrape can be made to cost.
const maxMetricsWorkloads = 100_000

func setMetricsWorkloads(c *config, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n == 1 || n > maxMetricsWorkloads {
		return fmt.Errorf("%s is not allowed; give a number from 2 to %d, or 0 for none", quote(v), maxMetricsWorkloads)
	}
	c.metricsWorkloads = n
	return nil
}

func setLogLevel(c *config, v string) error {
	l, err := logrus.ParseLevel(v)
	if err != nil {
		return fmt.Errorf("%s is not allowed; give one of panic, fatal, error, warning, info, debug, trace", quote(v))
	}
	c.logLevel = l
	return nil
}

func setLogFormat(c *config, v string) error {
	var name string
	if err := oneOf(func(*config) *string { return &name }, "normal", "json")(c, v); err != nil {
		return err
	}
	c.logJSON = name == "json"
	return nil
}

// quote shows a value that a user gave, cut if it is long.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}

// show is quote for names: it leaves the quotes out where it can.
func show(s string) string {
	if len(s) > 200 || s == "" || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return quote(s)
	}
	return s
}

// nearest returns which of names was probably meant by name, "" if none is
// near.
func nearest(name string, names []string) string {
	if len(name) > 100 {
		return ""
	}
	lower := strings.ToLower(name)
	best, most := "", max(1, len(strings.TrimPrefix(name, envPrefix))/3)+1
	for _, n := range names {
		if strings.HasSuffix(n, "."+lower) {
			return n
		}
		if d := distance(lower, strings.ToLower(n)); d < most {
			best, most = n, d
		}
	}
	return best
}

// distance returns how many bytes must be inserted, deleted or replaced to
// make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
