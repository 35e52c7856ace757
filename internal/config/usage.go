package config

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

const usageHead = `kube-enricher turns NetFlow, IPFIX and sFlow exports of a Kubernetes cluster
into records that name pods, workloads and services.

usage: kube-enricher [flags] [FILE ...]

  no FILE   collect on UDP until SIGINT or SIGTERM
  FILE      read the exporters' datagrams from a capture (pcap or pcapng, also
            compressed by gzip), then exit
  -         read goflow2's output or a capture on standard input, then exit; the
            same when standard input is a pipe and neither -listen nor FILE is
            given
`

const usageTail = `
Each flag can also be given as an environment variable (KUBE_ENRICHER_ and its
name in upper case, dots and dashes as _) or as a key of the YAML file that
-config names. A flag beats the environment, which beats the file.

Records go to standard output, log messages to standard error. Exit codes: 0
done, or stopped by a signal after a clean drain; 1 failed while running; 2
wrong usage; 130 or 143 a capture or pipe cut short by SIGINT or SIGTERM.
`

// pages is where the pages of docs/ are for who has the program only.
const pages = "https://github.com/netobserv/goflow2-kube-enricher/blob/main/docs/"

// Page returns where a page of docs/ is, such as "troubleshooting.md".
func Page(name string) string { return pages + name }

// WriteUsage writes the text of -h.
func WriteUsage(w io.Writer) error {
	var b strings.Builder
	b.WriteString(usageHead)
	opts := options(outputTypes())
	for _, g := range groups(opts) {
		fmt.Fprintf(&b, "\n%s:\n", g)
		for _, o := range optionsOf(opts, g) {
			fmt.Fprintf(&b, "  %s\n", strings.TrimRight("-"+o.name+" "+o.arg, " "))
			text := strings.ReplaceAll(o.usage, "`", "")
			if o.def != "" && o.arg != "" {
				text += " (default " + o.def + ")"
			}
			wrap(&b, text, "      ", 80)
		}
	}
	b.WriteString(usageTail)
	b.WriteString("\nThe pages of docs/ are at\n" + pages + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap writes text as lines of at most width columns that begin with indent.
func wrap(b *strings.Builder, text, indent string, width int) {
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
			b.WriteString(indent)
			column = len(indent)
		case column+1+len(word) > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteByte('\n')
}

const docHead = `<!-- Generated from the table of options in internal/config; "make docs" writes it anew. -->

# Flags

` + "```" + `
kube-enricher [flags] [FILE ...]
` + "```" + `

| FILE | what the program does |
|---|---|
| none | collects on UDP (` + "`-listen`" + `) until SIGINT or SIGTERM |
| pcap or pcapng, also compressed by gzip, of any name | reads the exporters' datagrams from the captures, then exits |
| ` + "`-`" + ` | reads goflow2's output, or a capture, on standard input, then exits at its end. The same when standard input is a pipe and neither ` + "`-listen`" + ` nor FILE is given |

Flags go before the first FILE. They take one dash or two, and their values follow a blank or ` + "`=`" + `.
Flags without a value in the tables below are switches: ` + "`-kube.off`, or `-kube.off=false`" + `.

Each flag can also be given as an environment variable, or as a key of the YAML file that
` + "`-config`" + ` names. **A flag beats the environment, and the environment beats the file.** In the
file, names with dots may be nested mappings, and values with commas may be lists:

` + "```yaml" + `
listen: [netflow://:2055, sflow://:6343]
fields: [default, +TimeFlowStartNs]
kube:
  snapshot: objects.yaml
  sync-timeout: 30s
transport.file: /var/log/flows.json
` + "```" + `

An unknown name, a value that is not allowed, or flags that contradict each other end the program at
once, with exit code 2 and one line that names the flag and the values that are allowed.
` + "`-check`" + ` also looks at the files that are named, and starts nothing.

Kubernetes sets variables such as ` + "`KUBE_ENRICHER_SERVICE_HOST`" + ` for a Service named
kube-enricher. They set no flag and do no harm.
`

// optionsOf returns the options of one group, in their order.
func optionsOf(opts []option, group string) []option {
	return slices.DeleteFunc(slices.Clone(opts), func(o option) bool { return o.group != group })
}

// flagsDoc returns the text of docs/flags.md.
func flagsDoc() string {
	var b strings.Builder
	b.WriteString(docHead)
	opts := options(outputTypes())
	for _, g := range groups(opts) {
		fmt.Fprintf(&b, "\n## %s\n\n| flag | default | meaning | environment variable |\n|---|---|---|---|\n", g)
		for _, o := range optionsOf(opts, g) {
			def := ""
			if o.def != "" {
				def = "`" + o.def + "`"
			}
			env := "none"
			if name := o.env(); name != "" {
				env = "`" + name + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", strings.TrimRight("-"+o.name+" "+o.arg, " "), def, strings.ReplaceAll(o.usage, "|", `\|`), env)
		}
	}
	return b.String()
}
