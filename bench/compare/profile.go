//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"html"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// profile runs the program under load, once for each format, and writes its profiles
// and a flame graph to a directory. If pgo names a file, the merged CPU profile goes
// there, too.
func (b *bench) profile(ctx context.Context, dir, pgo string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var cpus []string
	for _, format := range []string{"json", "protobuf"} {
		cpu, err := b.profileFormat(ctx, dir, format)
		if err != nil {
			return err
		}
		cpus = append(cpus, cpu)
	}
	// pprof runs in the directory of the binary, so that no profile has its full path.
	const binary = "kube-enricher"
	merged := filepath.Join(dir, "cpu.pprof")
	merge := exec.CommandContext(ctx, "go", append([]string{"tool", "pprof", "-proto", "-output", merged, binary}, cpus...)...)
	merge.Dir = b.bin
	if out, err := merge.CombinedOutput(); err != nil {
		return fmt.Errorf("merge profiles: %w: %s", err, out)
	}
	if pgo != "" {
		content, err := os.ReadFile(merged)
		if err != nil {
			return err
		}
		if err := os.WriteFile(pgo, content, 0o644); err != nil {
			return err
		}
	}
	show := exec.CommandContext(ctx, "go", "tool", "pprof", "-traces", binary, cpus[0])
	show.Dir = b.bin
	traces, err := show.Output()
	if err != nil {
		return fmt.Errorf("read the profile: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "flame.svg"), flameGraph(parseTraces(traces)), 0o644)
}

// profileFormat runs the program with one format under load. It writes profiles to
// dir and returns the name of the CPU profile.
func (b *bench) profileFormat(ctx context.Context, dir, format string) (cpu string, err error) {
	debug, err := freePort("tcp")
	if err != nil {
		return "", err
	}
	run, err := b.start(ctx, enricher(format, b.pods, "-debug.addr", debug), os.DevNull)
	if err != nil {
		return "", err
	}
	defer run.stop()
	loads := make(chan error, 1)
	go func() { loads <- b.profileLoads(ctx, run.udp) }()
	cpu = filepath.Join(dir, format+".pprof")
	pages := "http://" + debug + "/debug/pprof/"
	if err := download(pages+"profile?seconds="+strconv.Itoa(int(4*b.seconds)), cpu); err != nil {
		return "", err
	}
	for _, what := range []string{"allocs", "mutex"} {
		if err := download(pages+what, filepath.Join(dir, what+".pprof")); err != nil {
			return "", err
		}
	}
	return cpu, <-loads
}

// profileLoads sends the protocols one after another. It returns the last error.
func (b *bench) profileLoads(ctx context.Context, udp string) (err error) {
	for _, l := range []load{
		{protocol: "ipfix", records: 25, rate: 500_000}, {protocol: "ipfix", records: 1, rate: 200_000},
		{protocol: "v5", records: 25, rate: 400_000}, {protocol: "sflow", records: 7, rate: 200_000},
	} {
		l.pods, l.seconds = b.pods, b.seconds
		if _, e := b.generate(ctx, udp, l); e != nil {
			err = e
		}
	}
	return err
}

// download writes what an HTTP server answers to a file.
func download(url, file string) error {
	c := http.Client{Timeout: time.Minute}
	defer c.CloseIdleConnections()
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("read %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("read %s: %s", url, resp.Status)
	}
	return os.WriteFile(file, content, 0o644)
}

// frame is a function in a flame graph, under the one that called it.
type frame struct {
	name     string
	total    time.Duration
	children map[string]*frame
}

func (f *frame) child(name string) *frame {
	c := f.children[name]
	if c == nil {
		c = &frame{name: name, children: make(map[string]*frame)}
		f.children[name] = c
	}
	return c
}

// parseTraces reads the output of pprof -traces: a block for each stack, which
// begins with the time beside its innermost function.
func parseTraces(out []byte) *frame {
	root := &frame{name: "all", children: make(map[string]*frame)}
	for block := range strings.SplitSeq(string(out), "-----------+") {
		var value time.Duration
		var stack []string
		for line := range strings.Lines(block) {
			f := strings.Fields(line)
			if len(f) == 0 || strings.HasPrefix(f[0], "---") || strings.HasSuffix(f[0], ":") {
				continue
			}
			if d, err := time.ParseDuration(f[0]); err == nil && value == 0 && len(f) > 1 {
				value, f = d, f[1:]
			}
			if value > 0 {
				stack = append(stack, strings.TrimSuffix(strings.Join(f, " "), " (inline)"))
			}
		}
		root.total += value
		at := root
		for _, name := range slices.Backward(stack) {
			at = at.child(name)
			at.total += value
		}
	}
	return root
}

// flameGraph draws frames as an SVG image, the outermost at the top.
func flameGraph(root *frame) []byte {
	const width, row, least = 1200.0, 17, 1.5
	var rects bytes.Buffer
	depth := 0
	var draw func(f *frame, x float64, level int)
	draw = func(f *frame, x float64, level int) {
		w := width * float64(f.total) / float64(root.total)
		if w < least {
			return
		}
		depth = max(depth, level+1)
		h := fnv.New32a()
		_, _ = io.WriteString(h, f.name)
		hue := 20 + h.Sum32()%35
		name := f.name[strings.LastIndexByte(f.name, '/')+1:]
		label := name
		if n := int(w / 6.2); len(label) > n {
			label = label[:max(n-1, 0)]
		}
		if len(label) < 3 {
			label = ""
		}
		fmt.Fprintf(&rects, `<g><title>%s: %.1f %%</title><rect x="%.1f" y="%d" width="%.1f" height="%d" fill="hsl(%d,80%%,%d%%)"/><text x="%.1f" y="%d">%s</text></g>`+"\n",
			html.EscapeString(f.name), 100*float64(f.total)/float64(root.total), x, level*row, w-0.5, row-1, hue, 62+h.Sum32()%9, x+3, level*row+12, html.EscapeString(label))
		var all []*frame
		for _, c := range f.children {
			all = append(all, c)
		}
		slices.SortFunc(all, func(a, b *frame) int { return cmp.Compare(a.name, b.name) })
		for _, c := range all {
			draw(c, x, level+1)
			x += width * float64(c.total) / float64(root.total)
		}
	}
	draw(root, 0, 0)
	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" font-family="monospace" font-size="10.5">`+"\n", width, depth*row)
	fmt.Fprintf(&svg, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	svg.Write(rects.Bytes())
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}
