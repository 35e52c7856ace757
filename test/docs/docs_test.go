// Package docs tests the pages that people read: their links, their length and
// the length of their lines.
package docs

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

const (
	root       = "../.."
	maxColumns = 100
)

// maxWords has the bounds of pages that have to stay short, counted as wc -w does.
var maxWords = map[string]int{"README.md": 700, "ARCHITECTURE.md": 900}

// skipped has the directories that hold what is built or downloaded.
var skipped = map[string]bool{".git": true, "bin": true, "dist": true, "testdata": true, "vendor": true}

// files returns the contents of all files of the repository with one of the
// extensions, by their path in the repository.
func files(t *testing.T, extensions ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if skipped[entry.Name()] {
				return filepath.SkipDir
			}
			return nil
		}
		for _, extension := range extensions {
			if filepath.Ext(name) != extension {
				continue
			}
			content, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			found[filepath.ToSlash(relative)] = string(content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// prose calls visit for each line of a page that is not in a block of code.
func prose(page string, visit func(number int, line string)) {
	code, number := false, 0
	for line := range strings.Lines(page) {
		number++
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
			continue
		}
		if !code {
			visit(number, strings.TrimRight(line, "\r\n"))
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	span    = regexp.MustCompile("`[^`]*`")
	element = regexp.MustCompile(`<a (?:id|name)="([^"]+)">`)
)

// anchors returns the anchors that GitHub gives to the headings of a page, and
// those that the page sets itself.
func anchors(page string) map[string]bool {
	set := map[string]bool{}
	prose(page, func(_ int, line string) {
		for _, match := range element.FindAllStringSubmatch(line, -1) {
			set[match[1]] = true
		}
		if !strings.HasPrefix(line, "#") {
			return
		}
		title := strings.TrimSpace(strings.TrimLeft(line, "#"))
		title = link.ReplaceAllString(title, "]")
		var slug strings.Builder
		for _, r := range strings.ToLower(title) {
			switch {
			case r == ' ':
				slug.WriteByte('-')
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				slug.WriteRune(r)
			}
		}
		set[slug.String()] = true
	})
	return set
}

// TestLinks fails when a relative link leads nowhere.
func TestLinks(t *testing.T) {
	pages := files(t, ".md")
	for name, page := range pages {
		prose(page, func(number int, line string) {
			for _, match := range link.FindAllStringSubmatch(span.ReplaceAllString(line, ""), -1) {
				target, anchor, _ := strings.Cut(match[1], "#")
				if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
					continue
				}
				file := name
				if target != "" {
					file = path.Join(path.Dir(name), target)
				}
				if _, err := os.Stat(filepath.Join(root, file)); err != nil {
					t.Errorf("%s:%d: %s does not exist", name, number, match[1])
					continue
				}
				if anchor != "" && !anchors(pages[file])[anchor] {
					t.Errorf("%s:%d: %s has no heading %q", name, number, file, anchor)
				}
			}
		})
	}
}

var mention = regexp.MustCompile(`\bdocs/[a-z0-9-]+\.(?:md|svg)\b`)

// TestMentions fails when code, a message or a manifest names a page that does
// not exist.
func TestMentions(t *testing.T) {
	for name, content := range files(t, ".go", ".sh", ".yaml", ".tpl", ".txt", ".md") {
		for _, page := range mention.FindAllString(content, -1) {
			if _, err := os.Stat(filepath.Join(root, page)); err != nil && !strings.HasPrefix(name, "test/docs/") {
				t.Errorf("%s: %s does not exist", name, page)
			}
		}
	}
}

// TestContents fails when docs/README.md, the table of contents, lacks a page.
func TestContents(t *testing.T) {
	pages := files(t, ".md")
	for name := range pages {
		dir, page := path.Split(name)
		if dir == "docs/" && page != "README.md" && !strings.Contains(pages["docs/README.md"], "("+page+")") {
			t.Errorf("docs/README.md has no line for %s", page)
		}
	}
}

// TestLength fails when a page that has to stay short has grown.
func TestLength(t *testing.T) {
	pages := files(t, ".md")
	for name, bound := range maxWords {
		if n := len(strings.Fields(pages[name])); n == 0 || n > bound {
			t.Errorf("%s has %d words; at most %d: move something to a page of its own", name, n, bound)
		}
	}
}

// TestLines fails when a line of prose is too long. Code, tables, pictures and
// the targets of links don't count.
func TestLines(t *testing.T) {
	for name, page := range files(t, ".md") {
		if !strings.HasSuffix(page, "\n") || strings.HasSuffix(page, "\n\n") {
			t.Errorf("%s: does not end with one line break", name)
		}
		prose(page, func(number int, line string) {
			text := strings.TrimSpace(line)
			if strings.HasPrefix(text, "|") || strings.HasPrefix(text, "![") || strings.HasPrefix(text, "<") {
				return
			}
			if columns := utf8.RuneCountInString(link.ReplaceAllString(line, "]")); columns > maxColumns {
				t.Errorf("%s:%d: %d columns; at most %d", name, number, columns, maxColumns)
			}
		})
	}
}

// TestCommands fails when a page names a target that the Makefile does not have.
func TestCommands(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile("(?m)(?:^|`)make ([a-z][a-z0-9-]*)")
	for name, page := range files(t, ".md") {
		for _, match := range command.FindAllStringSubmatch(page, -1) {
			if !bytes.Contains(makefile, []byte("\n"+match[1]+":")) && !regexp.MustCompile(`(?m)^[a-z -]*\b`+match[1]+`\b[a-z -]*:`).Match(makefile) {
				t.Errorf("%s: the Makefile has no target %s", name, match[1])
			}
		}
	}
}

// directories has the directories of the root that the map may name.
var directories = map[string]bool{"cmd": true, "collector": true, "enrich": true, "flow": true, "internal": true, "transport": true, "test": true, "tools": true, "charts": true, "examples": true}

// TestPaths fails when the map of the code names a file or a directory that does
// not exist. A name without a directory may be anywhere.
func TestPaths(t *testing.T) {
	names := map[string]bool{}
	for name := range files(t, ".go", ".md", ".yaml", ".yml", ".sh", ".mod", ".proto", ".pgo") {
		names[path.Base(name)] = true
	}
	code := regexp.MustCompile("`([A-Za-z0-9_./-]+)`")
	for _, page := range []string{"ARCHITECTURE.md", "CONTRIBUTING.md"} {
		content, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range code.FindAllStringSubmatch(string(content), -1) {
			name := match[1]
			_, err := os.Stat(filepath.Join(root, name))
			top, _, nested := strings.Cut(name, "/")
			switch {
			case err == nil, !nested && (names[name] || path.Ext(name) != ".go"):
			case nested && !directories[top], strings.Contains(name, "NAME"):
			default:
				t.Errorf("%s: %s does not exist", page, name)
			}
		}
	}
}

// TestTests fails when a page names a test, a benchmark or a fuzz target that
// does not exist.
func TestTests(t *testing.T) {
	exists := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)[A-Z]\w*)\(`)
	for _, content := range files(t, ".go") {
		for _, match := range function.FindAllStringSubmatch(content, -1) {
			exists[match[1]] = true
		}
	}
	name := regexp.MustCompile("`((?:Test|Benchmark|Fuzz)[A-Z]\\w*)`")
	for page, content := range files(t, ".md") {
		for _, match := range name.FindAllStringSubmatch(content, -1) {
			if !exists[match[1]] {
				t.Errorf("%s: there is no %s", page, match[1])
			}
		}
	}
}

// TestMessages fails when a page shows a log message, or an answer of /explain,
// that the program does not give any more.
func TestMessages(t *testing.T) {
	var code strings.Builder
	for name, content := range files(t, ".go") {
		if !strings.HasSuffix(name, "_test.go") {
			code.WriteString(content)
		}
	}
	// Messages may begin with the name of an output, and have numbers and requests.
	message := regexp.MustCompile(`(?:msg=|"why": )"(?:[\w.]+: )?([^"%=;:(0-9]{8,40})`)
	for page, content := range files(t, ".md") {
		for _, match := range message.FindAllStringSubmatch(content, -1) {
			if !strings.Contains(code.String(), strings.TrimSpace(match[1])) {
				t.Errorf("%s: no message has %q", page, match[1])
			}
		}
	}
}

// otherFlags has what looks like a flag of the program and is none.
var otherFlags = map[string]bool{
	"-bench":              true, // of go test
	"-pipe":               true, // ends the tag of an image
	"-seconds":            true, // of bin/compare
	"-transport.file.sep": true, // of goflow2
}

// TestNames fails when a page names a metric or a flag that does not exist.
func TestNames(t *testing.T) {
	pages := files(t, ".md")
	metric := regexp.MustCompile(`\bkube_enricher(?:_[a-z]+)+`)
	flag := regexp.MustCompile("`(-[a-z][a-z0-9.-]+)[ =`]")
	for page, content := range pages {
		for _, name := range metric.FindAllString(content, -1) {
			name = regexp.MustCompile("_(?:bucket|sum|count)$").ReplaceAllString(name, "")
			if !strings.Contains(pages["docs/metrics.md"], "`"+name+"`") {
				t.Errorf("%s: there is no metric %s", page, name)
			}
		}
		if page == "docs/upgrade-from-goflow2.md" {
			continue // names goflow2's flags, too
		}
		for _, match := range flag.FindAllStringSubmatch(content, -1) {
			if otherFlags[match[1]] || strings.HasSuffix(match[1], ".") {
				continue
			}
			if !regexp.MustCompile("`" + regexp.QuoteMeta(match[1]) + "[` ]").MatchString(pages["docs/flags.md"]) {
				t.Errorf("%s: there is no flag %s", page, match[1])
			}
		}
	}
}

// TestOVNKubernetesCommands fails when a page, or what the chart prints, has a command that sets
// something at OVN-Kubernetes without a pattern for the container: its name depends on how it was
// installed, and kubectl sets nothing for a wrong one, with exit code 0.
func TestOVNKubernetesCommands(t *testing.T) {
	pages := files(t, ".md", ".txt")
	command := regexp.MustCompile("set env daemonset/ovnkube-node[^`]{0,60}") // in a line of text, or over several
	found := 0
	for page, content := range pages {
		for _, text := range command.FindAllString(content, -1) {
			found++
			if !strings.Contains(text, `-c 'ovnkube-*'`) {
				t.Errorf("%s: %s has no -c 'ovnkube-*'", page, text)
			}
		}
	}
	if found < 4 {
		t.Errorf("%d commands were found", found)
	}
	for page, want := range map[string][]string{
		"docs/deploy.md":    {"global.ipfixTargets=", "global.ipfixCacheMaxFlows=", `OVN_IPFIX_TARGETS=":2055"`},
		"docs/openshift.md": {"The operator merges the ConfigMap and `spec.exportNetworkFlows`"},
		"charts/goflow2-kube-enricher/templates/NOTES.txt": {
			"global.ipfixTargets=", "global.ipfixCacheMaxFlows=", "operator merges the patch and the ConfigMap", `OVN_IPFIX_TARGETS=":{{ $netflow }}"`,
		},
	} {
		for _, text := range want {
			if !strings.Contains(pages[page], text) {
				t.Errorf("%s does not have %s", page, text)
			}
		}
	}
}
