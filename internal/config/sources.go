package config

import (
	"errors"
	"flag"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// envPrefix begins the name of every environment variable that sets a flag.
const envPrefix = "KUBE_ENRICHER_"

// setting is a value that was given for a flag.
type setting struct {
	value string
	from  string // where it was given; empty for the command line
}

// flag returns the name of the flag for an error, and where its value was given.
func (s setting) flag(name string) string {
	if s.from == "" {
		return "-" + name
	}
	return "-" + name + " (from " + s.from + ")"
}

// parser collects the settings from the three places.
type parser struct {
	options []option
	given   map[string]setting // by name of the flag
	order   []string           // names of the flags that are given, in the user's order
	// variables are those of the environment that set no flag.
	variables map[string]string
}

// give takes over a setting.
func (p *parser) give(name string, s setting) {
	if _, ok := p.given[name]; !ok {
		p.order = append(p.order, name)
	}
	p.given[name] = s
}

// flagValue says whether a flag has a value that is looked for.
type flagValue struct {
	name  string
	given bool
}

// inOrder sorts flags by the order in which the user has given them: the error is of the first mistake.
func (p *parser) inOrder(flags []flagValue) []flagValue {
	place := func(f flagValue) int { return slices.Index(p.order, f.name) }
	slices.SortStableFunc(flags, func(a, b flagValue) int { return place(a) - place(b) })
	return flags
}

// option returns the option of the given name, nil if there is none.
func (p *parser) option(name string) *option {
	i := slices.IndexFunc(p.options, func(o option) bool { return o.name == name })
	if i < 0 {
		return nil
	}
	return &p.options[i]
}

// names returns the names of all flags.
func (p *parser) names() []string {
	names := make([]string, len(p.options))
	for i := range p.options {
		names[i] = p.options[i].name
	}
	return names
}

// rawValue is a [flag.Value] that takes any text. Values from all three places
// are checked later, so that all are refused in the same words.
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
		fs.Var(&rawValue{func(s string) { p.give(o.name, setting{value: s}) }, o.arg == ""}, o.name, o.usage)
	}
	fs.Var(&rawValue{func(s string) { p.given["v"] = setting{value: s} }, true}, "version", "the same as -v")
	err := fs.Parse(plainWords(args))
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return fs.Args(), err
	}
	// The flag package has no error types. Should it change its words, its own
	// text is still one line that names the flag.
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		if near := nearest(name, p.names()); near != "" {
			return nil, Usagef("unknown flag -%s; did you mean -%s?", show(name), near)
		}
		return nil, Usagef("unknown flag -%s; -h lists those that are allowed", show(name))
	}
	if name, ok := strings.CutPrefix(err.Error(), "flag needs an argument: -"); ok {
		return nil, Usagef("-%s: needs a value, %s", name, p.option(name).arg)
	}
	return nil, Usagef("%s; -h lists the flags", show(err.Error()))
}

// plainWords returns the arguments with the flag for a word that many programs
// understand, if it is alone. A file of such a name is ./version.
func plainWords(args []string) []string {
	if len(args) == 1 {
		switch args[0] {
		case "version":
			return []string{"-v"}
		case "help":
			return []string{"-h"}
		}
	}
	return args
}

// environment reads the variables that set flags. Those of flags that are on the
// command line are ignored.
func (p *parser) environment(env []string) error {
	byEnv := make(map[string]*option, len(p.options))
	for i := range p.options {
		if env := p.options[i].env(); env != "" {
			byEnv[env] = &p.options[i]
		}
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
				return Usagef("environment variable %s sets no flag; did you mean %s?", show(name), near)
			}
			return Usagef("environment variable %s sets no flag; allowed are %s followed by a flag's name in upper case, with dots and dashes as _", show(name), envPrefix)
		}
		if _, ok := p.given[o.name]; !ok {
			p.give(o.name, setting{value, "environment variable " + name})
		}
	}
	return nil
}

// Kubernetes sets variables in each container for every Service of its namespace.
// Those of Services whose names begin with kube-enricher look like ours. The
// patterns are those of Kubernetes' documentation, "Accessing the Service:
// Environment Variables" (compatible with Docker links).
var (
	serviceHost  = regexp.MustCompile(`^KUBE_ENRICHER_(\w+_)?SERVICE_HOST$`)
	servicePort  = regexp.MustCompile(`^KUBE_ENRICHER_(\w+_)?SERVICE_PORT(_\w+)?$`)
	serviceURL   = regexp.MustCompile(`^KUBE_ENRICHER_(\w+_)?PORT$`)
	servicePorts = regexp.MustCompile(`^KUBE_ENRICHER_(\w+_)?PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?$`)
	linkURL      = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// serviceLink reports whether a variable may be one that Kubernetes has set for a
// Service.
func serviceLink(name, value string) bool {
	return serviceHost.MatchString(name) || servicePort.MatchString(name) || servicePorts.MatchString(name) ||
		// With another value, a person may have meant the port to listen on.
		serviceURL.MatchString(name) && linkURL.MatchString(value)
}

// file reads the settings of a YAML file. Those that the command line or the
// environment gives are ignored.
func (p *parser) file(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return Usagef("%s: %v", p.given["config"].flag("config"), err)
	}
	inFile, err := p.yaml(name, data)
	if err != nil {
		return err
	}
	for i := range p.options { // as -h has them
		name := p.options[i].name
		s, has := inFile[name]
		if _, ok := p.given[name]; has && !ok {
			p.give(name, s)
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
			return nil, Usagef("%s:%s: %s; -config takes a YAML file", show, m[1], text[len(m[0]):])
		}
		return nil, Usagef("%s: %s; -config takes a YAML file", show, strings.TrimPrefix(text, "yaml: "))
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, Usagef("%s: has more than one YAML document; -config takes one", show)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return settings, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, Usagef("%s:%d: -config takes a YAML mapping, such as listen: flow://:2055", show, root.Line)
	}
	return settings, p.yamlMap(show, "", root, settings)
}

// yamlMap collects the settings of a mapping. prefix is the beginning of their
// names: the keys of the mappings around it.
func (p *parser) yamlMap(file, prefix string, node *yaml.Node, settings map[string]setting) error {
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := file + ":" + strconv.Itoa(key.Line)
		name := prefix + key.Value
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			return Usagef("%s: a key is not a plain word; keys are names of flags", at)
		}
		if value.Kind == yaml.MappingNode && p.isPrefix(name+".") {
			if err := p.yamlMap(file, name+".", value, settings); err != nil {
				return err
			}
			continue
		}
		if o := p.option(name); o == nil {
			return p.unknownKey(at, name)
		} else if o.commandLine {
			return Usagef("%s: key %s: is for the command line only; give -%[2]s there, or the key filter", at, name)
		}
		if name == "config" {
			return Usagef("%s: key config: a configuration file cannot name another; use the flag -config", at)
		}
		if _, ok := settings[name]; ok {
			return Usagef("%s: key %s: is there twice; give it once", at, name)
		}
		v, err := yamlValue(value)
		if err != nil {
			return Usagef("%s: key %s: %v", at, name, err)
		}
		settings[name] = setting{v, at}
	}
	return nil
}

// isPrefix reports whether the name of a flag begins with s.
func (p *parser) isPrefix(s string) bool {
	return slices.ContainsFunc(p.options, func(o option) bool { return strings.HasPrefix(o.name, s) })
}

// unknownKey returns the error for a key of the file that is no flag.
func (p *parser) unknownKey(at, name string) error {
	if near := nearest(name, p.names()); near != "" {
		return Usagef("%s: unknown key %s; did you mean %s?", at, Quote(name), near)
	}
	return Usagef("%s: unknown key %s; allowed are the names of flags, see -h", at, Quote(name))
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
