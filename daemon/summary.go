//go:build linux

package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
)

// Summarize writes a summary of the tables to the log, as SIGUSR1 asks for.
func (d *Daemon) Summarize() { d.events.summary.signal() }

// summarizeOnRequest writes a summary after each call of Summarize, until ctx is done.
func (d *Daemon) summarizeOnRequest(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.events.summary:
			d.writeSummary()
		}
	}
}

// writeSummary writes a line for each protocol, one for the traffic of each direction, one for the drops, and one for each worker.
func (d *Daemon) writeSummary() {
	for _, p := range d.usage() {
		d.log.Info("summary: tables", "protocol", p.Protocol, "bindings", p.Bindings, "sessions", p.Sessions,
			"pool4_used", p.Pool4Used, "pool4_ports", p.Pool4Ports)
	}
	for _, direction := range []metrics.Direction{metrics.From6To4, metrics.From4To6, metrics.Hairpin} {
		packets, bytes := d.gateway.Counters.Traffic(direction)
		d.log.Info("summary: traffic", "direction", direction, "packets", packets, "bytes", bytes)
	}
	d.log.Info("summary: drops", d.dropAttributes()...)
	used := d.processors.used()
	ratio := d.readings.busy.look(time.Now(), d.started, used)
	for _, name := range slices.Sorted(maps.Keys(used)) {
		d.log.Info("summary: worker", "worker", name, "busy", fmt.Sprintf("%.0f%%", 100*ratio[name]), "processor_time", used[name].Round(time.Millisecond))
	}
}

// dropAttributes returns the number of drops in all and for each reason, the most frequent first.
func (d *Daemon) dropAttributes() (list []any) {
	counts, all := map[drop.Reason]uint64{}, uint64(0)
	var reasons []drop.Reason
	for r := drop.None + 1; r < drop.Count; r++ {
		if n := d.gateway.Counters.Drops(r); n > 0 && !r.Host() {
			counts[r] = n
			all += n
			reasons = append(reasons, r)
		}
	}
	slices.SortStableFunc(reasons, func(a, b drop.Reason) int { return cmp.Compare(counts[b], counts[a]) })
	list = append(list, slog.Uint64("all", all))
	for _, r := range reasons {
		list = append(list, slog.Uint64(r.String(), counts[r]))
	}
	return list
}
