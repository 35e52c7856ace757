// Informer finds pods by address in the way that is usual with client-go: full
// objects in shared informers, and an index function. It is what bench-kube
// compares with, and prints its figures as JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// figures is what is printed.
type figures struct {
	Seconds float64 // until all is synced
	CPU     float64 // seconds of processor time until then
	Heap    uint64  // bytes in use then
	Nanos   float64 // for a look-up
	Allocs  int64   // for a look-up
	Pods    int
	Created float64 // pods a second, and as many deleted, during the look-ups
}

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "informer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig string) error {
	start := time.Now()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	err = pods.AddIndexers(cache.Indexers{"ip": func(o any) ([]string, error) {
		pod, ok := o.(*corev1.Pod)
		if !ok || pod.Spec.HostNetwork {
			return nil, nil
		}
		var ips []string
		for _, ip := range pod.Status.PodIPs {
			ips = append(ips, ip.IP)
		}
		return ips, nil
	}})
	if err != nil {
		return err
	}
	factory.Core().V1().Services().Informer()
	factory.Core().V1().Nodes().Informer()
	factory.Apps().V1().ReplicaSets().Informer()
	factory.Start(ctx.Done())
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return fmt.Errorf("%s are not synced", kind)
		}
	}
	f := figures{Seconds: time.Since(start).Seconds(), CPU: cpuSeconds()}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f.Heap = m.HeapAlloc

	addrs := pods.GetIndexer().ListIndexFuncValues("ip")
	f.Pods = len(addrs)
	stop, done, begin := make(chan struct{}), make(chan int), time.Now()
	go churn(pods.GetIndexer(), stop, done)
	failed := false
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			found, err := pods.GetIndexer().ByIndex("ip", addrs[i])
			failed = failed || err != nil || len(found) == 0
			if i++; i == len(addrs) {
				i = 0
			}
		}
	})
	close(stop)
	f.Created = float64(<-done) / time.Since(begin).Seconds()
	if failed {
		return fmt.Errorf("addresses were not found")
	}
	f.Nanos = float64(result.T.Nanoseconds()) / float64(result.N)
	f.Allocs = result.AllocsPerOp()
	if err := json.NewEncoder(os.Stdout).Encode(f); err != nil {
		return err
	}
	_, _ = os.Stdin.Read(make([]byte, 1)) // its memory is looked at from outside
	return nil
}

// churn adds 200 pods a second, each for a second.
func churn(store cache.Indexer, stop <-chan struct{}, done chan<- int) {
	const perSecond = 200
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	first, ok := store.List()[0].(*corev1.Pod)
	if !ok {
		panic("no pod")
	}
	pod := func(i int) *corev1.Pod {
		p := first.DeepCopy()
		p.Name, p.Status.PodIPs = fmt.Sprint("churn-", i), []corev1.PodIP{{IP: fmt.Sprintf("10.200.%d.%d", i>>8&255, i&255)}}
		return p
	}
	for created := 0; ; created++ {
		select {
		case <-stop:
			done <- created
			return
		case <-tick.C:
			_ = store.Add(pod(created))
			if created >= perSecond {
				_ = store.Delete(pod(created - perSecond))
			}
		}
	}
}

// cpuSeconds returns the processor time used so far, 0 where it is not known.
func cpuSeconds() float64 {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	total := 0.0
	for _, ticks := range f[11:13] { // user and system, in hundredths of a second
		n, err := strconv.ParseFloat(ticks, 64)
		if err != nil {
			return 0
		}
		total += n / 100
	}
	return total
}
