package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/collector/capture"
)

// finish sets the mode and the values that depend on others, and refuses
// contradictions.
func (p *parser) finish(c *Config, stdinIsPipe bool) error {
	if err := p.setMode(c, stdinIsPipe); err != nil {
		return err
	}
	if c.Mode != Stdin && c.Input != "auto" {
		return Usagef("%s: %s is for standard input only (FILE -, or a pipe without -listen); leave it out", p.given["input"].flag("input"), Quote(c.Input))
	}
	if err := p.finishOutputs(c); err != nil {
		return err
	}
	if err := p.checkFiles(c); err != nil {
		return err
	}
	if c.MetricsZones && c.MetricsWorkloads == 0 {
		return Usagef("%s: there are no traffic metrics with -metrics.workloads 0; leave one of the two out", p.given["metrics.zones"].flag("metrics.zones"))
	}
	if err := p.readElements(c); err != nil {
		return err
	}
	if err := p.checkFormat(c); err != nil {
		return err
	}
	if err := p.checkFilter(c); err != nil {
		return err
	}
	if _, given := p.given["addr"]; !given && c.Mode != Collect {
		// goflow2 at the other end of a pipe has :8080 already, and runs over
		// captures should not need a free port.
		c.Addr = ""
	}
	if c.Addr != "" && c.Addr == c.DebugAddr && !strings.HasSuffix(c.Addr, ":0") {
		return Usagef("%s: %s is the address of -addr too; give another port", p.given["debug.addr"].flag("debug.addr"), Quote(c.DebugAddr))
	}
	if c.Mode == Stdin && c.UIAddr != "" {
		return Usagef("%s: there is no page of records from standard input; leave it out", p.given["ui.addr"].flag("ui.addr"))
	}
	if err := p.sameAddress(c, "ui.addr", c.UIAddr); err != nil {
		return err
	}
	if err := p.checkHubble(c); err != nil {
		return err
	}
	for _, f := range p.inOrder([]flagValue{{"check.live", c.CheckLive}, {"check.ready", c.CheckReady != ""}}) {
		if f.given && !c.CheckOnly {
			return Usagef("%s: is part of -check; give -check, too", p.given[f.name].flag(f.name))
		}
	}
	if err := p.checkOVN(c); err != nil {
		return err
	}
	return p.oneCluster(c)
}

// sameAddress refuses an address that another flag has, too.
func (p *parser) sameAddress(c *Config, name, addr string) error {
	if addr == "" || strings.HasSuffix(addr, ":0") {
		return nil
	}
	for _, other := range []flagValue{{"addr", c.Addr == addr}, {"debug.addr", c.DebugAddr == addr}, {"ui.addr", c.UIAddr == addr}} {
		if other.given && other.name != name {
			return Usagef("%s: %s is the address of -%s too; give another port", p.given[name].flag(name), Quote(addr), other.name)
		}
	}
	return nil
}

// setMode sets the mode by the FILEs and standard input.
func (p *parser) setMode(c *Config, stdinIsPipe bool) error {
	listen, listenGiven := p.given["listen"]
	switch {
	case slices.Contains(c.Files, "-"):
		if len(c.Files) > 1 {
			return Usagef("FILE -: standard input cannot be read together with other files; give - alone, or only captures")
		}
		if listenGiven {
			return Usagef("%s: nothing is received when FILE is -; give one of the two", listen.flag("listen"))
		}
		c.Mode, c.Files = Stdin, nil
	case len(c.Files) > 0:
		c.Mode = Capture
		for _, f := range c.Files {
			if err := checkFileName(f); err != nil {
				return err
			}
		}
	case stdinIsPipe && !listenGiven:
		c.Mode, c.StdinImplied = Stdin, true
	}
	return nil
}

// oneCluster refuses more than one of cluster, snapshot and none.
func (p *parser) oneCluster(c *Config) error {
	exclusive := func(a, b, advice string) error {
		return Usagef("%s: cannot be used with %s; %s", p.given[a].flag(a), p.given[b].flag(b), advice)
	}
	switch {
	case c.KubeOff && c.KubeSnapshot != "":
		return exclusive("kube.off", "kube.snapshot", "give one of the two")
	case c.KubeOff && c.Kubeconfig != "":
		return exclusive("kube.off", "kubeconfig", "give one of the two")
	case c.KubeOff && len(c.KubeNamespaces) > 0:
		return exclusive("kube.off", "kube.namespaces", "give one of the two")
	case c.KubeSnapshot != "" && len(c.KubeNamespaces) > 0:
		return exclusive("kube.snapshot", "kube.namespaces", "a snapshot is used in place of a cluster, give one of the two")
	case c.KubeSnapshot != "" && c.Kubeconfig != "":
		return exclusive("kube.snapshot", "kubeconfig", "a snapshot is used in place of a cluster, give one of the two")
	}
	return nil
}

// checkFileName refuses a FILE that is a flag or nothing. What is in the file tells whether it
// is a capture.
func checkFileName(f string) error {
	if strings.HasPrefix(f, "-") {
		return Usagef("FILE %s: flags go before the first FILE; write ./%s if it is a file", show(f), show(f))
	}
	if f == "" {
		return Usagef("FILE %s: has no name; give a capture, or - for standard input", Quote(f))
	}
	return nil
}

// CheckCaptures returns an error, a [*UsageError], if a FILE is no capture by its first bytes.
func (c *Config) CheckCaptures() error {
	for _, f := range c.Files {
		if err := capture.Check(f); err != nil {
			return Usagef("FILE %v", err)
		}
	}
	return nil
}

// Check looks at the files that the settings name, for -check. It starts nothing
// and leaves no file behind. snapshot tries the snapshot, if there is one. The
// error is a [*UsageError].
func (c *Config) Check(snapshot func(file string) error) error {
	if c.KubeSnapshot != "" {
		if err := snapshot(c.KubeSnapshot); err != nil {
			return Usagef("-kube.snapshot: %v", err)
		}
	}
	if c.Kubeconfig != "" {
		if err := readable(c.Kubeconfig); err != nil {
			return Usagef("-kubeconfig: %v", err)
		}
	}
	for _, t := range c.types {
		if err := t.check(); err != nil {
			return err
		}
	}
	if c.TemplatesFile != "" {
		if err := appendable(c.TemplatesFile); err != nil {
			return Usagef("-templates.file: %v", err)
		}
	}
	if err := c.Hubble.checkCertificates(); err != nil {
		return err
	}
	return c.CheckCaptures()
}

// readable returns an error if a file cannot be read.
func readable(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a directory; give a file", Quote(name))
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

// appendable returns an error if a file can be neither opened for writing nor
// created. It does not create the file.
func appendable(name string) error {
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a directory; give a file in it", Quote(name))
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
		return fmt.Errorf("directory of %s: %w", Quote(name), err)
	}
	if !info.IsDir() {
		return fmt.Errorf("directory of %s: %s is no directory", Quote(name), Quote(dir))
	}
	f, err := os.CreateTemp(dir, ".kube-enricher-check-*")
	if err != nil {
		return fmt.Errorf("directory of %s: %w", Quote(name), err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
