//go:build linux

package daemon

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"nat64d/config"
	"nat64d/ops/control"
	"nat64d/ops/metrics"
)

// newMetricsService opens the sockets of metrics.listen.
func (d *Daemon) newMetricsService() *httpService {
	s := &httpService{
		key: "metrics.listen", where: func() config.Listen { return d.config().Metrics }, group: func() string { return d.config().Group },
		handler: control.Recovered(monitor(metrics.Handler(d.samples), d.stuck, d.readiness.reasons), d.panics.Aside),
		log:     d.log.Logger, panics: d.panics, changed: newEvent(),
	}
	s.open()
	return s
}

// monitor returns the handler for programs that watch nat64d: /metrics, /healthz, which fails when the process has to be restarted,
// and /readyz, which fails while packets are not translated. It reads only.
func monitor(scrape http.Handler, dead, notReady func() []string) http.Handler {
	m := http.NewServeMux()
	m.Handle("GET /metrics", scrape)
	m.HandleFunc("GET /healthz", probe(dead))
	m.HandleFunc("GET /readyz", probe(notReady))
	m.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "nat64d: /metrics for Prometheus, /healthz and /readyz for probes")
	})
	return m
}

// probe returns a handler that answers ok, or the status 503 and a line for each reason.
func probe(reasons func() []string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		why := reasons()
		if len(why) == 0 {
			_, _ = io.WriteString(w, "ok\n") // it fails if the client has closed the connection
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		for _, line := range why {
			fmt.Fprintln(w, strings.ReplaceAll(line, "\n", "; "))
		}
	}
}
