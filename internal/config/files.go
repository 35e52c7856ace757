package config

import (
	"os"
	"path/filepath"
	"strings"
)

// namedFile is a file that the settings name.
type namedFile struct {
	flag   string // that names it, for an error
	name   string
	writes string // what this program writes there, empty if it reads the file
}

// checkFiles refuses a file that is written and has another use, too. One of the two would
// destroy the other, which may be the user's: a snapshot, a configuration.
func (p *parser) checkFiles(c *Config) error {
	files := p.namedFiles(c)
	for i, w := range files {
		for j, f := range files {
			if w.writes == "" || i == j || f.writes != "" && j < i || !sameFile(w.name, f.name) {
				continue
			}
			return Usagef("%s: %s is the file of %s, too; give another file for %s", w.flag, Quote(w.name), f.flag, w.writes)
		}
	}
	return nil
}

// namedFiles returns all files that the settings name.
func (p *parser) namedFiles(c *Config) (files []namedFile) {
	for i := range p.options {
		o := &p.options[i]
		s := p.given[o.name]
		if !strings.HasPrefix(o.arg, "FILE") {
			continue
		}
		names := []string{s.value}
		if strings.Contains(o.arg, ",") {
			names = strings.Split(s.value, ",")
		}
		for _, name := range names {
			if name = strings.TrimSpace(name); name != "" {
				files = append(files, namedFile{s.flag(o.name), name, o.writes})
			}
		}
	}
	for _, name := range c.Files {
		files = append(files, namedFile{"FILE", name, ""})
	}
	if !c.KubeOff && c.KubeSnapshot == "" && c.Kubeconfig == "" {
		for _, name := range filepath.SplitList(p.variables["KUBECONFIG"]) {
			if name != "" {
				files = append(files, namedFile{"the environment variable KUBECONFIG", name, ""})
			}
		}
		if home := p.variables["HOME"]; home != "" && p.variables["KUBECONFIG"] == "" {
			files = append(files, namedFile{"the cluster's usual configuration", filepath.Join(home, ".kube", "config"), ""})
		}
	}
	return files
}

// sameFile reports whether two names are of one file, by symbolic or hard links, too. The
// file need not be there yet. A device or a pipe of which nothing can be destroyed is
// never the same.
func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX == nil && errY == nil {
		return x.Mode().IsRegular() && os.SameFile(x, y)
	}
	return resolve(a, maxLinks) == resolve(b, maxLinks)
}

// maxLinks bounds the symbolic links that are followed, as Linux does.
const maxLinks = 40

// resolve returns the absolute name of a file without symbolic links, also where it or its
// directories are not there yet.
func resolve(name string, links int) string {
	name, err := filepath.Abs(name)
	if err != nil {
		return name
	}
	if target, err := os.Readlink(name); err == nil && links > 0 {
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(name), target)
		}
		return resolve(target, links-1)
	}
	dir := filepath.Dir(name)
	if dir == name {
		return name
	}
	return filepath.Join(resolve(dir, links), filepath.Base(name))
}
