//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// errLost is the error of a run in which records were lost: its figures mean
// nothing.
var errLost = errors.New("records were lost")

// attempts is how often a run is tried that loses records: something else on
// the machine may have been the cause.
const attempts = 3

// cost runs a program under a load and returns its CPU time for each record, in
// microseconds. All records that were sent must have been written.
func (b *bench) cost(ctx context.Context, p *program, l load) (float64, error) {
	return b.costTo(ctx, p, l, os.DevNull)
}

// costTo does so with the records in a file.
func (b *bench) costTo(ctx context.Context, p *program, l load, output string) (float64, error) {
	var err error
	for range attempts {
		var v float64
		if v, err = b.costOnce(ctx, p, l, output); err == nil || !errors.Is(err, errLost) {
			return v, err
		}
		fmt.Fprintf(b.log, "        %v\n", err)
	}
	return 0, err
}

func (b *bench) costOnce(ctx context.Context, p *program, l load, output string) (float64, error) {
	run, err := b.start(ctx, p, output)
	if err != nil {
		return 0, err
	}
	defer run.stop()
	warm := l
	warm.seconds = 1
	first, err := b.generate(ctx, run.udp, warm)
	if err != nil {
		return 0, err
	}
	if err := run.settle(ctx, p); err != nil {
		return 0, err
	}
	var before, after uint64
	if p.written != nil {
		if before, err = p.written(run); err != nil {
			return 0, err
		}
	}
	begin, err := run.cpu()
	if err != nil {
		return 0, err
	}
	s, err := b.generate(ctx, run.udp, l)
	if err != nil {
		return 0, err
	}
	if err := run.settle(ctx, p); err != nil {
		return 0, err
	}
	end, err := run.cpu()
	if err != nil {
		return 0, err
	}
	drops := kernelDrops(run.udp)
	if b.look != nil {
		b.look(run)
	}
	if p.written != nil {
		if after, err = p.written(run); err != nil {
			return 0, err
		}
	} else {
		var n sent
		if err := json.Unmarshal([]byte(run.stop()), &n); err != nil {
			return 0, fmt.Errorf("%s: %w", p.name, err)
		}
		before, after = first.Records, n.Datagrams*uint64(l.records)
		after -= 2 * uint64(max(l.sources, 1)*l.records) // the templates
	}
	if got := after - before; got != s.Records || drops > 0 {
		return 0, fmt.Errorf("%s: %w: %d of %d came through, the kernel dropped %d datagrams", p.name, errLost, got, s.Records, drops)
	}
	if real := float64(s.Records) / s.Seconds; real < 0.97*l.rate {
		return 0, fmt.Errorf("the generator sent %.0f records/s instead of %.0f", real, l.rate)
	}
	return float64((end - begin).Nanoseconds()) / 1e3 / float64(s.Records), nil
}

// verify runs a program with a real file for a second and counts what is in it.
func (b *bench) verify(ctx context.Context, p *program, format string, l load) error {
	file := filepath.Join(b.dir, "records")
	defer os.Remove(file)
	run, err := b.start(ctx, p, file)
	if err != nil {
		return err
	}
	defer run.stop()
	l.seconds = 1
	s, err := b.generate(ctx, run.udp, l)
	if err != nil {
		return err
	}
	if err := run.settle(ctx, p); err != nil {
		return err
	}
	run.stop()
	n, err := countFile(file, format)
	if err != nil {
		return err
	}
	if n != s.Records {
		return fmt.Errorf("%s: %w: %d of %d are in its file", p.name, errLost, n, s.Records)
	}
	return nil
}

// against compares ours with another program in turn, A B A B, at a rate that
// neither loses at.
func against(format string, other *program, otherFormat string, l load, least, most float64) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		l := l
		l.seconds, l.pods = b.seconds, b.pods
		ours := enricher(format, b.pods)
		if err := b.verify(ctx, ours, format, l); err != nil {
			return result{}, err
		}
		if otherFormat != "" {
			if err := b.verify(ctx, other, otherFormat, l); err != nil {
				return result{}, err
			}
		}
		us, them, err := b.turns(ctx, func() (float64, error) { return b.cost(ctx, ours, l) }, func() (float64, error) { return b.cost(ctx, other, l) })
		if err != nil {
			return result{}, err
		}
		r := result{runs: fmt.Sprintf("ours %s µs, %s %s µs; %d pairs", spread(us), other.name, spread(them), b.repeat)}
		if least > 0 {
			ratio := median(them) / median(us)
			r.measured, r.met = fmt.Sprintf("%.1f× less", ratio), met(ratio >= least)
		} else {
			ratio := median(us) / median(them)
			r.measured, r.met = fmt.Sprintf("%.2f×", ratio), met(ratio <= most)
		}
		return r, nil
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// pairs measures our program with something and without it in turn. With it, the cost may
// be most times that without.
func (b *bench) pairs(ctx context.Context, most float64, with, without func() (float64, error)) (result, error) {
	on, off, err := b.turns(ctx, with, without)
	if err != nil {
		return result{}, err
	}
	ratio := median(on) / median(off)
	return result{
		measured: fmt.Sprintf("%.2f×", ratio), met: met(ratio <= most),
		runs: fmt.Sprintf("with %s µs, without %s µs; %d pairs", spread(on), spread(off), b.repeat),
	}, nil
}

// turns measures two things in turn, A B A B.
func (b *bench) turns(ctx context.Context, one, other func() (float64, error)) (ones, others []float64, err error) {
	for range b.repeat {
		v, err := one()
		w, err2 := other()
		if err := errors.Join(ctx.Err(), err, err2); err != nil {
			return nil, nil, err
		}
		ones, others = append(ones, v), append(others, w)
		fmt.Fprintf(b.log, "        %.2f against %.2f µs\n", v, w)
	}
	return ones, others, nil
}

// spread returns the median and the extremes.
func spread(v []float64) string {
	format := "%.2f (%.2f–%.2f)"
	if median(v) >= 1000 {
		format = "%.0f (%.0f–%.0f)"
	}
	return fmt.Sprintf(format, median(v), slices.Min(v), slices.Max(v))
}

// throughput looks for the highest rate, in steps of 7 %, at which nothing is
// lost, from the bar on.
func throughput(records int, bar float64) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		const step = 1.07
		var best []float64
		limit := ""
		for range b.repeat {
			run, err := b.start(ctx, enricher("json", b.pods), os.DevNull)
			if err != nil {
				return result{}, err
			}
			top := 0.0
			for rate, fails := bar, 0; fails < 2; {
				l := load{protocol: "ipfix", records: records, rate: rate, seconds: b.seconds, pods: b.pods}
				got, why, err := b.sustained(ctx, run, l)
				if err != nil {
					run.stop()
					return result{}, err
				}
				fmt.Fprintf(b.log, "        at %.0f/s: %s\n", rate, why)
				switch {
				case why == "":
					top, fails = max(top, got), 0
					rate *= step
					continue
				case top == 0: // not even the bar
					fails = 0
					rate /= step
				default:
					fails++ // may have been an accident
					limit = why
				}
				if rate < bar/4 {
					break
				}
			}
			run.stop()
			best = append(best, top)
		}
		return result{
			measured: fmt.Sprintf("%.0f records/s", median(best)), met: met(median(best) >= 0.995*bar),
			runs: fmt.Sprintf("%s, %d runs; beyond: %s", spread(best), b.repeat, limit),
		}, nil
	}
}

// sustained sends a load and says why it was not sustained, or at which rate it
// was.
func (b *bench) sustained(ctx context.Context, run *process, l load) (rate float64, why string, err error) {
	p := enricher("json", l.pods)
	before, err := p.written(run)
	if err != nil {
		return 0, "", err
	}
	drops := kernelDrops(run.udp)
	s, err := b.generate(ctx, run.udp, l)
	if err != nil {
		return 0, "", err
	}
	if err := run.settle(ctx, p); err != nil {
		return 0, "", err
	}
	after, err := p.written(run)
	if err != nil {
		return 0, "", err
	}
	rate = float64(s.Records) / s.Seconds
	switch {
	case after-before != s.Records:
		return rate, fmt.Sprintf("%.2f %% lost, the kernel dropped %d datagrams", 100*float64(s.Records-(after-before))/float64(s.Records), kernelDrops(run.udp)-drops), nil
	case rate < 0.97*l.rate:
		return rate, fmt.Sprintf("the generator reached %.0f records/s", rate), nil
	}
	return rate, "", nil
}

// bursts sends bursts, after which no datagram may be missing.
func bursts(rcvbuf int, rate float64) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		var more []string
		if rcvbuf > 0 {
			more = append(more, fmt.Sprintf("?rcvbuf=%d", rcvbuf))
		}
		p := enricher("json", b.pods, more...)
		run, err := b.start(ctx, p, os.DevNull)
		if err != nil {
			return result{}, err
		}
		defer run.stop()
		l := load{protocol: "ipfix", records: 1, rate: rate, seconds: 1, burst: 50 * time.Millisecond, pause: 450 * time.Millisecond, pods: b.pods}
		s, err := b.generate(ctx, run.udp, l)
		if err != nil {
			return result{}, err
		}
		if err := run.settle(ctx, p); err != nil {
			return result{}, err
		}
		n, err := p.written(run)
		if err != nil {
			return result{}, err
		}
		drops := kernelDrops(run.udp)
		return result{
			measured: fmt.Sprintf("%d of %d written, %d dropped by the kernel", n, s.Records, drops), met: met(n == s.Records && drops == 0),
			runs: fmt.Sprintf("20 bursts, of %.0f datagrams/s as sent", float64(s.Datagrams)/s.Active),
		}, nil
	}
}

// idle measures what the program takes when nothing comes.
func idle(ctx context.Context, b *bench) (result, error) {
	run, err := b.start(ctx, enricher("json", b.pods), os.DevNull)
	if err != nil {
		return result{}, err
	}
	defer run.stop()
	if err := sleep(ctx, 3*time.Second); err != nil { // garbage of the start
		return result{}, err
	}
	begin, err := run.cpu()
	if err != nil {
		return result{}, err
	}
	d := time.Duration(4 * b.seconds * float64(time.Second))
	if err := sleep(ctx, d); err != nil {
		return result{}, err
	}
	end, err := run.cpu()
	if err != nil {
		return result{}, err
	}
	share := 100 * float64(end-begin) / float64(d)
	return result{measured: fmt.Sprintf("%.2f %% of a core", share), met: met(share < 1), runs: fmt.Sprintf("over %v", d)}, nil
}

// goBench runs Go benchmarks and returns their results by benchmark and unit.
func (b *bench) goBench(ctx context.Context, pattern, pkg string) (map[string]map[string][]float64, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchmem", "-benchtime", "1s", "-count", strconv.Itoa(b.repeat), pkg)
	cmd.Dir = b.root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go test: %w: %s", err, out)
	}
	all := make(map[string]map[string][]float64)
	suffix := regexp.MustCompile(`-\d+$`)
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := suffix.ReplaceAllString(f[0], "")
		if all[name] == nil {
			all[name] = make(map[string][]float64)
		}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				all[name][f[i+1]] = append(all[name][f[i+1]], v)
			}
		}
	}
	return all, nil
}

const pipelinePackage = "./cmd/kube-enricher"

// inProcess is the rate of the pipeline without sockets.
func inProcess(name string, bar float64) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		all, err := b.goBench(ctx, "^BenchmarkPipeline$/^"+strings.ReplaceAll(name, "/", "$/^")+"$", pipelinePackage)
		if err != nil {
			return result{}, err
		}
		v := all["BenchmarkPipeline/"+name]["records/s"]
		if len(v) == 0 {
			return result{}, fmt.Errorf("no benchmark %s", name)
		}
		r := result{measured: fmt.Sprintf("%.0f records/s", median(v)), runs: fmt.Sprintf("%s, %d runs", spread(v), len(v))}
		if bar > 0 {
			r.met = met(median(v) >= bar)
		}
		return r, nil
	}
}

// workers is how much more two workers do than one.
func workers(ctx context.Context, b *bench) (result, error) {
	all, err := b.goBench(ctx, "^BenchmarkWorkers$", pipelinePackage)
	if err != nil {
		return result{}, err
	}
	one, two := all["BenchmarkWorkers/1"]["records/s"], all["BenchmarkWorkers/2"]["records/s"]
	ratio := median(two) / median(one)
	return result{
		measured: fmt.Sprintf("%.2f×", ratio), met: met(ratio >= 1.8),
		runs: fmt.Sprintf("one %s, two %s records/s", spread(one), spread(two)),
	}, nil
}

// allocations are those of a record.
func allocations(ctx context.Context, b *bench) (result, error) {
	all, err := b.goBench(ctx, "^BenchmarkPipeline$/^json$", pipelinePackage)
	if err != nil {
		return result{}, err
	}
	var measured []string
	ok := true
	for _, p := range []struct {
		name  string
		limit float64
	}{{"v5", 0}, {"v9", 0}, {"ipfix", 0}, {"ipfix-variable", 0}, {"sflow", 1}} {
		v := all["BenchmarkPipeline/json/"+p.name+"/25"]["allocs/op"]
		if len(v) == 0 {
			return result{}, fmt.Errorf("no benchmark of %s", p.name)
		}
		n := slices.Max(v) / 25
		measured = append(measured, fmt.Sprintf("%s %g", p.name, n))
		ok = ok && n <= p.limit
	}
	return result{measured: strings.Join(measured, ", "), met: met(ok)}, nil
}

// tableCases are the rows of the table.
func tableCases() []benchCase {
	ovs := func(records int, rate float64) load { return load{protocol: "ipfix", records: records, rate: rate} }
	return []benchCase{
		{"json-25", "JSON, 25 records a datagram, 10,000 records/s: ours against goflow2 -format=json", "at least 20× less", against("json", goflow2("json"), "json", ovs(25, 10_000), 20, 0)},
		{"protobuf-25", "protobuf, 25 a datagram, 50,000/s: ours against goflow2 -format=bin", "at least 4.5× less", against("protobuf", goflow2("bin"), "bin", ovs(25, 50_000), 4.5, 0)},
		{"json-1", "JSON, 1 a datagram, 10,000/s: ours against goflow2 -format=bin", "at least 5× less", against("json", goflow2("bin"), "bin", ovs(1, 10_000), 5, 0)},
		{"json-1-read", "JSON, 1 a datagram, 50,000/s: ours against a loop that reads one datagram a call", "at most 0.6×", against("json", readloop("single"), "", ovs(1, 50_000), 0, 0.6)},
		{"json-1-recvmmsg", "the same against a bare loop of recvmmsg that sleeps for 1 ms between calls", "at most 1.6×", against("json", readloop("recvmmsg"), "", ovs(1, 50_000), 0, 1.6)},
		{"inprocess-json", "in process, 25 a datagram, JSON", "at least 700,000 records/s a core", inProcess("json/ipfix/25", 700_000)},
		{"inprocess-protobuf", "in process, 25 a datagram, protobuf", "at least 900,000 records/s a core", inProcess("protobuf/ipfix/25", 900_000)},
		{"udp-25", "over UDP with the generator beside it, JSON, 25 a datagram, nothing lost", "at least 500,000 records/s", throughput(25, 500_000)},
		{"udp-1", "the same, 1 a datagram", "at least 200,000 records/s", throughput(1, 200_000)},
		{"allocations", "allocations a record", "0; sFlow at most 1", allocations},
		{"workers", "two workers against one, in process", "at least 1.8×", workers},
		{"ring", "the newest records in memory, nobody looking, JSON, 25 a datagram, 50,000/s: against none", "at most 1.1×", ring(false, 1.1)},
		{"ring-looked", "the same with the page open and one client of Hubble's API following", "at most 1.25×", ring(true, 1.25)},
		{"http", "JSON by HTTP, without compression, 25 a datagram, 50,000/s: against JSON in a file", "at most 1.3×", output("http", 1.3)},
		{"otlp", "OTLP by gRPC, the same", "at most 1.3×", output("otlp", 1.3)},
		{"otelcol", "OTLP by gRPC, 25 a datagram, the most of 50,000, 20,000 and 10,000/s at which nothing is lost: ours against OpenTelemetry's collector with netflow, k8sattributes and otlp, which names nobody", "at least 8× less", otelcol(8, false)},
		{"otelcol-named", "the same with attributes and groupbyattrs, so that the collector names the source's pod", "at least 8× less", otelcol(8, true)},
		{"places", "-networks of 10,000 prefixes and two -geoip files, all flows to 10,000 addresses in them, JSON, 25 a datagram, 50,000/s: against none", "at most 1.1×", places(1.1, 1)},
		{"places-mix", "the same, one flow in five leaves the cluster, the others are between pods", "at most 1.1×", places(1.1, 5)},
		{"idle", "idle, 50,000 pods", "less than 1 % of a core", idle},
		{"latency", "from a lone datagram to its record in a pipe", "at most 20 ms", latency},
		{"burst-default", "bursts of 50 ms, 200,000 datagrams/s, default rcvbuf", "no drop", bursts(0, 200_000)},
		{"burst-small", "bursts of 50 ms, 20,000 datagrams/s, rcvbuf of 208 KiB", "no drop", bursts(208<<10, 20_000)},
	}
}
