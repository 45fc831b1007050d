package metrics_test

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
)

// The rows have unique names in the style of Prometheus, a known kind, a unit, and a phrase for the operator.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	help := regexp.MustCompile(`^([a-z1]|ICMP|ARP|DNS|UDP|IPv6|MTU|SYN).*[^.]$`)
	seen := map[string]bool{}
	for id := range metrics.IDs {
		row := id.Row()
		if !name.MatchString(row.Name) || seen[row.Name] || !strings.HasPrefix(row.Name, "nat64_") {
			t.Errorf("row %d is named %q: want a name in snake case that begins with nat64_ and that no other has", id, row.Name)
		}
		seen[row.Name] = true
		if total := strings.HasSuffix(row.Name, "_total"); total != (row.Type == metrics.Counter) {
			t.Errorf("%s is a %v: the names of counters end with _total, and no others", row.Name, row.Type)
		}
		if !help.MatchString(row.Help) {
			t.Errorf("%s: the help is %q, want a phrase without a period", row.Name, row.Help)
		}
		if !slices.Contains([]string{"packets", "drop", "error", "table", "gateway", "dns64"}, row.Kind) || !name.MatchString(row.Unit) {
			t.Errorf("%s: kind %q, unit %q", row.Name, row.Kind, row.Unit)
		}
		for _, l := range row.Labels {
			if !name.MatchString(l) || strings.Contains(l, "client") || strings.Contains(l, "address") {
				t.Errorf("%s: label %q: want a name in snake case, and no address of a client", row.Name, l)
			}
		}
	}
}

// A set shows what its workers have counted, of every direction, event and reason.
func TestSetShowsEveryCounterOfWorkers(t *testing.T) {
	t.Parallel()
	s := metrics.New(2)
	for i := range 2 {
		w := s.Worker(i)
		w.Receives(metrics.Direction(i))
		w.Forwarded(metrics.From4To6, 1, 2, 100)
		w.Happened(metrics.Probe)
		w.Happened(metrics.ErrorSent4(3, 4))
		w.Dropped(drop.HopLimit, 3)
		w.Dropped(drop.NotPool4, 1)
		w.Refused(1, 5)
		w.NoPort(2)
		w.Reassembled(2)
	}
	got := map[string]metrics.Line{}
	for _, l := range metrics.Lines(s.Samples()) {
		key := fmt.Sprint(l.Name, l.Labels)
		if _, twice := got[key]; twice {
			t.Errorf("%s is shown twice", key)
		}
		got[key] = l
	}
	for key, want := range map[string]uint64{
		"nat64_packets_total map[direction:4to6 protocol:udp]":             4,
		"nat64_bytes_total map[direction:4to6 protocol:udp]":               200,
		"nat64_packets_total map[direction:hairpin protocol:icmp]":         0,
		"nat64_tcp_probes_total map[]":                                     2,
		"nat64_icmp_errors_sent_total map[family:v4 type:too_big]":         2,
		"nat64_dropped_packets_total map[direction:6to4 reason:hop_limit]": 3,
		"nat64_dropped_packets_total map[direction:4to6 reason:hop_limit]": 3,
		"nat64_dropped_packets_total map[direction:4to6 reason:transmit]":  5,
		"nat64_host_packets_total map[direction:6to4 reason:not_pool4]":    1,
		"nat64_pool4_allocation_failures_total map[protocol:icmp]":         2,
		"nat64_fragments_total map[result:reassembled]":                    4,
		"nat64_translate_duration_seconds_count map[direction:6to4]":       0,
	} {
		if l, ok := got[strings.Replace(key, " map", "map", 1)]; !ok || l.Value != want {
			t.Errorf("%s: %+v, want %d", key, l, want)
		}
	}
	if l := got["nat64_dropped_packets_totalmap[direction:6to4 reason:hop_limit]"]; l.Help != drop.HopLimit.Help() || l.Old != `drops{reason="hop_limit"}` {
		t.Errorf("a reason is shown as %+v", l)
	}
	if _, refused := s.Losses(1); refused != 10 {
		t.Errorf("%d packets were refused by the NIC, want 10", refused)
	}
}

// A duration is in the first bucket whose bound is no shorter.
func TestDurations(t *testing.T) {
	t.Parallel()
	s := metrics.New(1)
	for _, d := range []time.Duration{-1, 0, 1, 1000, 1001, 2000, 2001, 16384 * time.Microsecond, 16385 * time.Microsecond, time.Hour} {
		s.Worker(0).Took(d)
	}
	want := map[string]uint64{"1e-06": 4, "2e-06": 6, "4e-06": 7, "0.008192": 7, "0.016384": 8, "+Inf": 10}
	for _, l := range metrics.Lines(s.Samples()) {
		if n, ok := want[l.Labels["le"]]; ok && l.Labels["direction"] == "6to4" {
			if delete(want, l.Labels["le"]); l.Value != n {
				t.Errorf("%d took no longer than %s, want %d", l.Value, l.Labels["le"], n)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("not shown: %v", want)
	}
}

// Prometheus gets the samples, and what is known of the process.
func TestHandler(t *testing.T) {
	t.Parallel()
	h := metrics.Handler(func() []metrics.Sample {
		return []metrics.Sample{
			metrics.Sessions.With(7, "tcp", "ESTABLISHED"), metrics.WorkerBusy.Of(0.25, "v6/0"), metrics.Ready.Is(true),
			metrics.TranslateDuration.Over(metrics.Distribution{Bounds: []float64{1e-6}, Within: []uint64{2}, Count: 3, Sum: 1.5}, "6to4"),
		}
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		"# TYPE nat64_sessions gauge\n", `nat64_sessions{protocol="tcp",state="ESTABLISHED"} 7`, `nat64_worker_busy_ratio{worker="v6/0"} 0.25`,
		"nat64_ready 1\n", `nat64_translate_duration_seconds_bucket{direction="6to4",le="1e-06"} 2`,
		`nat64_translate_duration_seconds_bucket{direction="6to4",le="+Inf"} 3`, `nat64_translate_duration_seconds_sum{direction="6to4"} 1.5`,
		"\ngo_goroutines ", "\nprocess_resident_memory_bytes ",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("the answer lacks %q", want)
		}
	}
}
