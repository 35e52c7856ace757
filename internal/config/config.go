// Package config reads the program's settings: from the command line, the
// environment and a YAML file, by one table of options.
//
// The table is the functions options and outputTypes. Parsing, the usage and
// docs/flags.md are made from it, so they cannot disagree. A new flag is one
// entry in the table and one field of [Config]; a new output is one file with its
// options and one line in outputTypes.
package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/filter"
)

// Mode is where records come from.
type Mode uint8

// The modes.
const (
	Collect Mode = iota // from exporters, over UDP, until a signal
	Capture             // from capture files
	Stdin               // from goflow2's output on standard input
)

// String returns the mode as the log line of the start shows it.
func (m Mode) String() string {
	return [...]string{"collect", "capture", "stdin"}[m]
}

// Config holds the settings of the program, checked and with defaults filled
// in. [Parse] makes it. Nothing changes it once the program runs, so any number of
// goroutines may read it.
type Config struct {
	Mode Mode
	// Files names the captures to read, in mode Capture only.
	Files []string
	// StdinImplied reports whether mode Stdin was chosen only because standard
	// input is a pipe. The program then logs that it reads from there.
	StdinImplied bool

	// Listen lists the UDP addresses. Captures use its ports, too.
	Listen []collector.Listener
	// Input is the format of standard input: auto, json, protobuf or capture.
	Input string
	// Allow lists the networks that may export to us; empty for everyone.
	Allow []netip.Prefix
	// Sampling gives sampling rates to exporters that send none.
	Sampling []collector.SamplingRule
	// TemplatesFile is where templates are kept across restarts; empty for nowhere.
	TemplatesFile string
	// TemplatesHold is how long data sets wait for their template; 0 for not at all.
	TemplatesHold time.Duration
	// TemplatesHoldSize is the room for those of one exporter, in bytes.
	TemplatesHoldSize int64

	// Mapping lists the address fields that are looked up.
	Mapping []flow.MapEntry
	// textEntry reports whether the last entry of Mapping was added for the
	// format text. The other formats leave it out.
	textEntry bool
	// Schema names the fields in JSON: one of encode.Schemas.
	Schema string
	// Fields is the list of fields to write, in the syntax of -fields.
	Fields string
	// ElementsFile is the file of -fields.elements; empty for none. Elements is what is
	// in it.
	ElementsFile string
	Elements     []flow.ExtraElement
	// Cluster is the value of the field Cluster; empty for no such field.
	Cluster string
	// FilterText is the value of -filter, and short has those of the short filters. Filter
	// is made of both.
	FilterText string
	short      shortFilters
	// Filter chooses the records to write; nil if every record is written.
	Filter *filter.Filter
	// TextToStdout reports whether lines of text go to standard output.
	TextToStdout bool
	// Color reports whether lines of text are coloured. Parse sets it if they go to
	// standard output and the environment allows it. The program clears it if
	// standard output is no terminal.
	Color bool
	// Width is the width of the terminal that lines of text go to, in characters. The
	// program sets it; 0 if there is none.
	Width int

	// Outputs lists where records go, at least one, each transport once.
	Outputs []Output
	// transports and formats are -transport and -format as they were given.
	// Outputs joins the two.
	transports, formats []Output
	// types is the table of outputs, with the settings of each.
	types []outputType

	// Kubeconfig is the file that says how to reach the cluster; empty for the
	// usual places.
	Kubeconfig string
	// KubeSnapshot is a file of objects to use in place of a cluster; empty for a
	// cluster.
	KubeSnapshot string
	// KubeOff reports whether records pass without names.
	KubeOff bool
	// KubeSyncTimeout bounds the wait for the first full view of the cluster; 0
	// for no wait.
	KubeSyncTimeout time.Duration
	// KubeRetain is how long ended pods still answer; 0 for not at all.
	KubeRetain time.Duration
	// KubeWait is how long a record waits for its pod to be announced; 0 for not
	// at all.
	KubeWait time.Duration
	// KubeNamespaces lists the namespaces that are watched; empty for all.
	KubeNamespaces []string
	// KubeOwners lists the resources that may be root owners, as enrich.ParseOwners
	// reads it; empty for none.
	KubeOwners string
	// JoinSubnets are those of OVN-Kubernetes' gateway routers.
	JoinSubnets []netip.Prefix
	// KubeLabels lists the pod labels that are copied to fields.
	KubeLabels []flow.Label

	// Addr is the TCP address of probes and metrics; empty for none.
	Addr string
	// DebugAddr is the TCP address of the debugging pages; empty for none.
	DebugAddr string
	// OVN says where verdicts and policies come from.
	OVN OVN
	// UIAddr is the TCP address of the page; empty for none.
	UIAddr string
	// Recent is the room for the newest records, in bytes.
	Recent int64
	// Hubble has the settings of Hubble's API.
	Hubble Hubble
	// MetricsWorkloads bounds the pairs of workloads that have series of their
	// own; 0 for no metrics of traffic.
	MetricsWorkloads int
	// MetricsZones reports whether these metrics have zones as labels.
	MetricsZones bool

	// Networks is the file of networks and labels; empty for none. GeoIP names the
	// databases of countries and autonomous systems.
	Networks string
	GeoIP    []string

	// DrainTimeout bounds the work after a signal: half of it for what has reached
	// the sockets, half for the outputs.
	DrainTimeout time.Duration
	// Summary reports whether a summary is printed after captures and standard input.
	Summary bool
	// HugePages reports whether the heap is moved into huge pages (Linux).
	HugePages bool
	// LogLevel is the least severe level that is logged.
	LogLevel logrus.Level
	// LogJSON reports whether log messages are JSON.
	LogJSON bool
	// ConfigFile is the YAML file that the settings came from; empty for none.
	ConfigFile string
	// CheckOnly reports whether the program checks its settings and exits.
	CheckOnly bool
	// CheckLive reports whether that also looks at the cluster, ports and outputs.
	CheckLive bool
	// CheckReady is the URL of a running program's /readyz that is asked, too; empty for none.
	CheckReady string
	// ShowVersion reports whether the program prints its version and exits. The
	// other fields are not set then.
	ShowVersion bool
}

// HasPlaces reports whether addresses outside of the cluster are looked up.
func (c *Config) HasPlaces() bool { return c.Networks != "" || len(c.GeoIP) > 0 }

// UsageError is a mistake in how the program was started. Its text is one line
// that names the flag and the values that are allowed. The program ends with exit
// code 2.
type UsageError struct{ text string }

func (e *UsageError) Error() string { return e.text }

// Usagef returns a [UsageError]. Control characters and line breaks in the text
// become blanks: values of the user and errors of other packages may have some.
func Usagef(format string, args ...any) *UsageError {
	line := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...))
	return &UsageError{strings.Join(strings.Fields(line), " ")}
}

// setAll sets all values. Of several that are wrong, the error is of the one that the user gave
// first.
func (p *parser) setAll(c *Config) error {
	wrong := make(map[string]error)
	for i := range p.options {
		o := &p.options[i]
		s, ok := p.given[o.name]
		if !ok {
			s.value = o.def
		}
		if o.arg == "" || s.value != "" || o.def != "" {
			if err := o.set(c, s.value); err != nil {
				wrong[o.name] = Usagef("%s: %v", s.flag(o.name), err)
			}
		}
	}
	for _, name := range p.order {
		if wrong[name] != nil {
			return wrong[name]
		}
	}
	for _, err := range wrong { // a default: the table is wrong
		return err
	}
	return nil
}

// Parse reads the settings. args is the command line without the program's
// name, env the environment as [os.Environ] returns it, stdinIsPipe reports
// whether standard input is a pipe. A flag beats the environment, and the
// environment beats the file that -config names. The error is a [*UsageError], or
// [flag.ErrHelp] if the usage was asked for.
//
// Parse reads no files but those of -config and -fields.elements; [Config.Check] looks at the others.
func Parse(args, env []string, stdinIsPipe bool) (*Config, error) {
	types := outputTypes()
	p := parser{options: options(types), given: make(map[string]setting), variables: make(map[string]string)}
	files, err := p.flags(args)
	if err != nil {
		return nil, err
	}
	if on, err := strconv.ParseBool(p.given["v"].value); err == nil && on {
		// On the command line, -v works whatever the environment holds.
		return &Config{ShowVersion: true}, nil
	}
	if err := p.environment(env); err != nil {
		return nil, err
	}
	if name := p.given["config"].value; name != "" {
		if err := p.file(name); err != nil {
			return nil, err
		}
	}
	c := &Config{Files: files, types: types}
	if err := p.setAll(c); err != nil {
		return nil, err
	}
	if c.ShowVersion {
		return c, nil
	}
	return c, p.finish(c, stdinIsPipe)
}
