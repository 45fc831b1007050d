package metrics_test

import (
	"regexp"
	"slices"
	"testing"

	"nat64d/drop"
	"nat64d/ops/metrics"
)

// The rows have unique names in one style, a known kind, a unit, and a phrase for the operator.
func TestCatalogue(t *testing.T) {
	name := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	help := regexp.MustCompile(`^([a-z]|ICMP|ARP|DNS|UDP).*[^.]$`)
	seen := map[string]bool{}
	for id := range metrics.IDs {
		row := id.Row()
		if !name.MatchString(row.Name) || seen[row.Name] {
			t.Errorf("counter %d is named %q: want a name in snake case that no other has", id, row.Name)
		}
		seen[row.Name] = true
		if !help.MatchString(row.Help) {
			t.Errorf("%s: the help is %q, want a phrase without a period", row.Name, row.Help)
		}
		if !slices.Contains([]string{"packets", "drop", "error", "table", "dns64"}, row.Kind) || !name.MatchString(row.Unit) {
			t.Errorf("%s: kind %q, unit %q", row.Name, row.Kind, row.Unit)
		}
		for _, l := range row.Labels {
			if !name.MatchString(l) {
				t.Errorf("%s: label %q", row.Name, l)
			}
		}
		if c := id.With(7, row.Labels...); c.Name != row.Name || c.Value != 7 || c.Kind != row.Kind || c.Help != row.Help || len(c.Labels) != len(row.Labels) {
			t.Errorf("%s: %+v", row.Name, c)
		}
	}
}

// A set shows what its workers have counted, of every direction, event and reason.
func TestSetShowsEveryCounterOfWorkers(t *testing.T) {
	s := metrics.New(2)
	for i := range 2 {
		w := s.Worker(i)
		w.Forwarded(metrics.From4To6, 2, 100)
		w.Happened(metrics.Probe)
		w.Dropped(drop.HopLimit, 3)
	}
	got := map[string]metrics.Counter{}
	for _, c := range s.All() {
		key := c.Name
		for _, l := range []string{"direction", "reason"} {
			key += " " + c.Labels[l]
		}
		if c.Labels["for"] != "" {
			key += " " + c.Labels["for"]
		}
		if _, twice := got[key]; twice {
			t.Errorf("%s is shown twice", key)
		}
		got[key] = c
	}
	for key, want := range map[string]uint64{
		"translated_packets 4to6 ": 4, "translated_bytes 4to6 ": 200, "translated_packets hairpin ": 0, "tcp_probes  ": 2, "drops  hop_limit": 6,
	} {
		if c, ok := got[key]; !ok || c.Value != want {
			t.Errorf("%s: %+v, want %d", key, c, want)
		}
	}
	if c := got["drops  hop_limit"]; c.Help != drop.HopLimit.Help() {
		t.Errorf("the help of a reason is %q", c.Help)
	}
	balances := 2 * (3 + int(drop.Count) - 1 - 4 + 2) // without the reasons of frames for the host, and of the NIC
	if want := 4 + 3*2 + int(metrics.LimitReached) + 1 + int(drop.Count) - 1 + balances; len(got) != want {
		t.Errorf("%d counters, want %d", len(got), want)
	}
}
