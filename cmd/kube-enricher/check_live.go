package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/enrich"
	"github.com/netobserv/goflow2-kube-enricher/internal/config"
)

// outputPatience is how long an output may take to reach its destination.
const outputPatience = 5 * time.Second

// finding is a row of the table of -check.live.
type finding struct {
	what   string
	result string // ok, warning or failed
	detail string
}

// The results of a finding.
const (
	findingOK      = "ok"
	findingWarning = "warning"
	findingFailed  = "failed"
)

// checkLive is -check.live: it looks at what -check cannot see in files, and prints a table. It
// fails if something is missing that the program cannot work without.
func (a *app) checkLive(ctx context.Context) error {
	var rows []finding
	rows = append(rows, a.checkCluster(ctx)...)
	if a.cfg.Mode == config.Collect {
		rows = append(rows, checkBuffers(a.cfg.Listen, "/proc/sys/net/core/rmem_max")...)
		rows = append(rows, a.checkPorts(ctx))
	}
	rows = append(rows, a.checkHTTP()...)
	rows = append(rows, a.checkHubble()...)
	rows = append(rows, a.checkDatabases(ctx)...)
	rows = append(rows, a.checkOutputs(ctx)...)
	return writeFindings(a.stdout, rows)
}

// writeFindings prints the table. Its error counts what failed.
func writeFindings(w io.Writer, rows []finding) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	failed := 0
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\n", r.what, r.result, strings.ReplaceAll(r.detail, "\n", " "))
		if r.result == findingFailed {
			failed++
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(rows))
	}
	return nil
}

// checkCluster contacts the API server and asks for rights.
func (a *app) checkCluster(ctx context.Context) []finding {
	cluster, ok := a.names.(*enrich.Cluster)
	if !ok {
		return nil // a snapshot, or no names
	}
	version, rights, err := cluster.Probe(ctx)
	if err != nil {
		return []finding{{"cluster", findingFailed, err.Error()}}
	}
	rows := []finding{{"cluster", findingOK, "Kubernetes " + version}}
	for _, r := range rights {
		row := finding{"right to " + r.Resource, findingOK, r.String()}
		if r.Namespace != "" {
			row.what += " in " + r.Namespace
		}
		switch {
		case r.Absent || len(r.Missing) == 0:
		case r.Optional:
			row.result = findingWarning
			row.detail += "; fewer names are found"
		default:
			row.result = findingFailed
		}
		rows = append(rows, row)
	}
	return rows
}

// checkBuffers compares the receive buffers that are asked for with the kernel's limit, which file
// has. A program with the capability NET_ADMIN is not bound by it.
func checkBuffers(listen []collector.Listener, file string) []finding {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil // not Linux
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil
	}
	wanted := 0
	for _, l := range listen {
		wanted = max(wanted, l.ReceiveBuffer)
	}
	if limit >= wanted {
		return []finding{{"rmem_max", findingOK, fmt.Sprintf("%d bytes", limit)}}
	}
	return []finding{{"rmem_max", findingWarning, fmt.Sprintf("%d bytes, and sockets ask for %d: without the capability NET_ADMIN they get less; sysctl -w net.core.rmem_max=%[2]d", limit, wanted)}}
}

// checkPorts binds what the program would receive on, and gives it back.
func (a *app) checkPorts(ctx context.Context) finding {
	const what = "ports for flows"
	if err := a.collector.Open(ctx); err != nil {
		return finding{what, findingFailed, err.Error()}
	}
	defer a.collector.Close()
	var urls []string
	for _, l := range a.collector.Bound() {
		urls = append(urls, fmt.Sprintf("%s (buffer of %d bytes)", l.URL(), l.ReceiveBuffer))
	}
	return finding{what, findingOK, strings.Join(urls, ", ")}
}

// checkHTTP binds the addresses for HTTP one by one, and gives them back.
func (a *app) checkHTTP() (rows []finding) {
	for _, s := range []struct{ flag, addr string }{
		{"-addr", a.cfg.Addr}, {"-debug.addr", a.cfg.DebugAddr}, {"-ui.addr", a.cfg.UIAddr},
	} {
		if s.addr == "" {
			continue
		}
		row := finding{"port for HTTP", findingOK, fmt.Sprintf("%s (%s)", s.addr, s.flag)}
		if l, err := listenTCP(s.flag, s.addr); err != nil {
			row.result, row.detail = findingFailed, err.Error()
		} else {
			_ = l.Close()
		}
		rows = append(rows, row)
	}
	return rows
}

// checkHubble binds the address of Hubble's API, if there is one, and gives it back.
func (a *app) checkHubble() []finding {
	if a.hubble == nil {
		return nil
	}
	const what = "port for Hubble"
	if err := a.listenHubble(); err != nil {
		return []finding{{what, findingFailed, err.Error()}}
	}
	a.closeHubble()
	return []finding{{what, findingOK, a.cfg.Hubble.Addr + " (-hubble.addr)"}}
}

// checkDatabases asks OVN's databases which tables they have. Without them records have no
// policies, and the program works.
func (a *app) checkDatabases(ctx context.Context) (rows []finding) {
	if a.policies == nil {
		return nil
	}
	for _, d := range a.policies.Probe(ctx) {
		row := finding{"database " + d.Name, findingOK, d.String()}
		if d.Err != nil {
			row.result = findingFailed
		}
		rows = append(rows, row)
	}
	return rows
}

// checkOutputs runs each output without records, until it has reached its destination.
func (a *app) checkOutputs(ctx context.Context) []finding {
	var rows []finding
	for _, o := range a.outputs {
		row := finding{what: "output " + o.name, result: findingOK, detail: "reached"}
		if err := o.Open(); err != nil {
			rows = append(rows, finding{row.what, findingFailed, err.Error()})
			continue
		}
		t := start(o.Run)
		deadline := time.Now().Add(outputPatience)
		err := o.Problem()
		for err != nil && time.Now().Before(deadline) && ctx.Err() == nil {
			wait, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			if ended := t.wait(wait); wait.Err() == nil {
				err = ended
				cancel()
				break
			}
			cancel()
			err = o.Problem()
		}
		if err != nil {
			row.result, row.detail = findingFailed, err.Error()
		}
		t.cancel()
		_ = t.stop()
		rows = append(rows, row)
	}
	return rows
}
