package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Our own choices: the scrapes at a time, and how long one may take.
const (
	maxScrapes  = 4
	scrapeLimit = 10 * time.Second
)

// Handler returns the handler of /metrics. It calls samples for each scrape, and adds what is known of the Go runtime and of the
// process.
func Handler(samples func() []Sample) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(samples), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, Timeout: scrapeLimit})
}

// collector turns samples into metrics of Prometheus when it is asked, so that nothing is counted twice.
type collector struct {
	samples func() []Sample
	descs   [IDs]*prometheus.Desc
}

func newCollector(samples func() []Sample) *collector {
	c := &collector{samples: samples}
	for id := range IDs {
		row := id.Row()
		c.descs[id] = prometheus.NewDesc(row.Name, row.Help, row.Labels, nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	for _, s := range c.samples() {
		to <- c.metric(&s)
	}
}

// metric returns a sample in the form of Prometheus.
func (c *collector) metric(s *Sample) prometheus.Metric {
	row, value := s.ID.Row(), float64(s.Value)
	if row.Fraction() {
		value = s.Fraction
	}
	kind := prometheus.CounterValue
	switch row.Type {
	case Histogram:
		d := s.Durations
		buckets := make(map[float64]uint64, len(d.Bounds))
		for i, bound := range d.Bounds {
			buckets[bound] = d.Within[i]
		}
		return prometheus.MustNewConstHistogram(c.descs[s.ID], d.Count, d.Sum, buckets, s.Labels...)
	case Gauge:
		kind = prometheus.GaugeValue
	}
	return prometheus.MustNewConstMetric(c.descs[s.ID], kind, value, s.Labels...)
}
