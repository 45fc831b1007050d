package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"nat64d/ops/control"
)

func newTop(a *app) *cobra.Command {
	o := topOptions{every: watchEvery, order: control.ClientOrders[0], clients: 20}
	c := &cobra.Command{
		Use:   "top",
		Short: "watch rates, pools, drops, workers and the clients that use most",
		Long: `Watch what nat64d does: rates of each direction, sessions, how full pool4 is, drops with their meaning, workers, and the clients that
use most. nat64d counts the traffic of clients while top runs; with sessions.accounting always.

Keys: p ports, s sessions, r rate, b bytes, k packets: sort the clients by it; space: at once; q: end.

Without a terminal, -n is needed: it prints so many views. A view shows rates, so the first one comes after --interval.`,
		Example: `  nat64ctl top
  nat64ctl top -n 1 -o json
  nat64ctl top -n 1 --sort rate --limit 3`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return usageError{err, c.CommandPath()}
			}
			switch {
			case c.Flags().Changed("iterations") && o.iterations == 0:
				return usageError{errors.New("-n 0 would print nothing: use 1 or more"), c.CommandPath()}
			case c.Flags().Changed("iterations"):
				return a.topViews(c.Context(), o)
			case a.format != formatTable:
				return usageError{fmt.Errorf("-o %s needs -n, the number of views, such as -n 1", c.Flag("output").Value), c.CommandPath()}
			case !a.terminal() || !term.IsTerminal(int(os.Stdin.Fd())):
				return usageError{errors.New("top needs a terminal; without one, use -n 1"), c.CommandPath()}
			}
			return a.topScreen(c.Context(), o)
		},
	}
	f := c.Flags()
	f.IntVarP(&o.iterations, "iterations", "n", 0, "print so many views and end")
	f.DurationVarP(&o.every, "interval", "d", o.every, "time between two views")
	f.StringVar(&o.order, "sort", o.order, "sort the clients by "+strings.Join(control.ClientOrders, ", "))
	f.IntVar(&o.clients, "limit", o.clients, "number of clients, up to 1000")
	_ = c.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(control.ClientOrders, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	return c
}

// topOptions are the flags of top.
type topOptions struct {
	iterations int
	every      time.Duration
	order      string
	clients    int
}

func (o *topOptions) check() error {
	switch {
	case o.iterations < 0:
		return fmt.Errorf("-n %d must not be negative", o.iterations)
	case o.every < leastWatch:
		return fmt.Errorf("--interval %v is too short: use %v or more", o.every, leastWatch)
	case !slices.Contains(control.ClientOrders, o.order):
		return fmt.Errorf("--sort %s: use %s", o.order, strings.Join(control.ClientOrders, ", "))
	case o.clients < 1 || o.clients > 1000:
		return fmt.Errorf("--limit %d: use 1 to 1000", o.clients)
	}
	return nil
}

// topSample is what one look at the daemon returns.
type topSample struct {
	at       time.Time
	status   control.Status
	counters []control.Counter
	pool4    []control.Pool4Row
	clients  control.ClientList
}

// sample looks at the daemon.
func (a *app) sample(ctx context.Context, order string, clients int) (s topSample, err error) {
	c := a.client()
	if s.status, err = c.Status(ctx); err != nil {
		return s, err
	}
	if s.counters, err = c.Stats(ctx); err != nil {
		return s, err
	}
	s.at = time.Now()
	usage, err := c.Pool4Usage(ctx, 0)
	if err != nil {
		return s, err
	}
	s.pool4 = usage.Pool4
	s.clients, err = c.Clients(ctx, control.ClientQuery{By: order, Limit: clients})
	return s, err
}

// topView is what top shows of two samples, and its JSON.
type topView struct {
	Time      time.Time           `json:"time"`
	Interval  control.Seconds     `json:"interval_seconds"` // of the rates
	Version   string              `json:"version"`
	State     string              `json:"state"` // ready, not ready or paused
	NotReady  []string            `json:"not_ready,omitempty"`
	Uptime    control.Seconds     `json:"uptime_seconds"`
	Protocols []control.Protocol  `json:"protocols"`
	Traffic   []topRate           `json:"traffic"`
	Workers   []topWorker         `json:"workers"`
	Pool4     []control.Pool4Row  `json:"pool4"` // the fullest first
	Drops     []topDrop           `json:"drops"` // the most frequent first
	Clients   []control.ClientUse `json:"clients"`
	Total     int                 `json:"clients_total"`
	SortedBy  string              `json:"sorted_by"`
}

// topRate is the traffic in one direction.
type topRate struct {
	Direction        string  `json:"direction"`
	PacketsPerSecond float64 `json:"packets_per_second"`
	BytesPerSecond   float64 `json:"bytes_per_second"`
}

// topWorker is a thread that carries packets.
type topWorker struct {
	Side       string  `json:"side"`
	Interface  string  `json:"interface"`
	Processors string  `json:"processors"`
	Busy       float64 `json:"busy_ratio"`
}

// topDrop is a reason for which packets were not forwarded.
type topDrop struct {
	Reason    string  `json:"reason"`
	Total     uint64  `json:"total"`
	PerSecond float64 `json:"per_second"`
	Help      string  `json:"help"`
}

// newTopView returns the view of two samples.
func newTopView(before, after *topSample, order string) topView {
	elapsed := after.at.Sub(before.at)
	v := topView{
		Time: after.at, Interval: control.Seconds(elapsed), Version: after.status.Version.Version, State: "ready",
		NotReady: after.status.NotReady, Uptime: after.status.Uptime, Protocols: after.status.Protocols, Pool4: slices.Clone(after.pool4),
		Clients: after.clients.Clients, Total: after.clients.Total, SortedBy: order,
	}
	switch {
	case after.status.Paused:
		v.State = "paused"
	case !after.status.Ready:
		v.State = "not ready"
	}
	for i, t := range after.status.Traffic {
		old := control.Traffic{}
		if i < len(before.status.Traffic) {
			old = before.status.Traffic[i]
		}
		v.Traffic = append(v.Traffic, topRate{t.Direction, perSecond(old.Packets, t.Packets, elapsed), perSecond(old.Bytes, t.Bytes, elapsed)})
	}
	for _, i := range after.status.Interfaces {
		for _, w := range i.Workers {
			v.Workers = append(v.Workers, topWorker{Side: i.Side, Interface: i.Name, Processors: w.Processors, Busy: w.Busy})
		}
	}
	slices.SortStableFunc(v.Pool4, func(a, b control.Pool4Row) int { return fullness(b) - fullness(a) })
	v.Drops = topDrops(before.counters, after.counters, elapsed)
	return v
}

// perSecond returns the rate of a counter, and 0 if the daemon has been restarted.
func perSecond(before, after uint64, elapsed time.Duration) float64 {
	if after < before || elapsed <= 0 {
		return 0
	}
	return math.Round(float64(after-before)/elapsed.Seconds()*10) / 10
}

// fullness returns the part of the ports that cannot be had, in thousandths.
func fullness(r control.Pool4Row) int { return 1000 * (r.Size - r.Free) / max(r.Size, 1) }

// topDrops returns the reasons for which packets were dropped, those first that happen now.
func topDrops(before, after []control.Counter, elapsed time.Duration) (drops []topDrop) {
	byReason := map[string]*topDrop{}
	var order []string
	for _, d := range differences(before, after, elapsed) {
		if d.Kind != "drop" || d.Value == 0 {
			continue
		}
		reason := d.Labels["reason"]
		x := byReason[reason]
		if x == nil {
			x = &topDrop{Reason: reason, Help: d.Help}
			byReason[reason] = x
			order = append(order, reason)
		}
		x.Total += d.Value
		x.PerSecond += max(d.PerSecond, 0)
	}
	for _, reason := range order {
		drops = append(drops, *byReason[reason])
	}
	slices.SortStableFunc(drops, func(a, b topDrop) int {
		switch {
		case a.PerSecond != b.PerSecond:
			return int(math.Copysign(1, b.PerSecond-a.PerSecond))
		case a.Total < b.Total:
			return 1
		case a.Total > b.Total:
			return -1
		}
		return 0
	})
	return drops
}

// topViews prints some views, one after the other.
func (a *app) topViews(ctx context.Context, o topOptions) error {
	before, err := a.sample(ctx, o.order, o.clients)
	if err != nil {
		return err
	}
	for i := range o.iterations {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(o.every):
		}
		after, err := a.sample(ctx, o.order, o.clients)
		if err != nil {
			return err
		}
		v := newTopView(&before, &after, o.order)
		before = after
		if a.format != formatTable {
			if err := printFields(a, v, nil); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		for _, line := range v.lines(0, 0, a.paint) {
			fmt.Fprintln(a.out, line)
		}
	}
	return nil
}
