package api

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/flowtest"
)

// nobody reads an answer and throws it away.
type nobody struct {
	header http.Header
	n      int
}

func (w *nobody) Header() http.Header { return w.header }
func (w *nobody) WriteHeader(int)     {}

func (w *nobody) Write(b []byte) (int, error) {
	w.n += len(b)
	return len(b), nil
}

// BenchmarkPage is what an open page costs each time that it asks, with 12,500 workloads and
// 50,000 pairs, of which each has a record in a second.
func BenchmarkPage(b *testing.B) {
	f := unserved(b, 64<<20)
	c := flowtest.NewCluster()
	send := func(seconds int) {
		for range 4 * seconds {
			for range 12_500 {
				f.stage.HandleFlow(c.Next())
			}
			f.cfg.Store.Newest() // adds records to the sums
		}
	}
	send(200)
	h := f.Handler()
	took := make(map[string]time.Duration)
	bytes := 0
	for b.Loop() {
		b.StopTimer()
		send(5)
		b.StartTimer()
		for name, target := range map[string]string{
			"summary": "summary", "pairs": "pairs?since=5m&limit=3000", "series": "series?since=5m&by=namespace&buckets=120&limit=12",
		} {
			w := &nobody{header: make(http.Header)}
			began := flowtest.CPUTime(b)
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/"+target, nil))
			took[name] += flowtest.CPUTime(b) - began
			bytes += w.n
		}
	}
	b.ReportAllocs()
	for name, d := range took {
		b.ReportMetric(d.Seconds()*1e3/float64(b.N), name+"-cpu-ms")
	}
	b.ReportMetric(float64(bytes)/float64(b.N), "bytes")
}
