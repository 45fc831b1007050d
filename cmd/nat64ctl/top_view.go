package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"nat64d/ops/control"
)

// The rows of top in a window of 24 lines: the rest is for the clients.
const (
	topPools     = 3
	topDropLines = 3
)

// lines returns the view as text. With a height, it leaves out rows so that it fits; with a width, it cuts lines.
func (v *topView) lines(width, height int, paint func(colour, text string) string) (lines []string) {
	lines = v.head(paint)
	pools, drops := len(v.Pool4), len(v.Drops)
	if height > 0 {
		pools, drops = min(pools, topPools), min(drops, topDropLines)
	}
	lines = append(lines, "")
	lines = append(lines, align(v.poolRows(pools))...)
	if drops > 0 {
		lines = append(lines, "")
		lines = append(lines, align(v.dropRows(drops))...)
	}
	lines = append(lines, "")
	clients := len(v.Clients)
	if height > 0 {
		clients = min(clients, max(height-len(lines)-1, 1)) // below a title
	}
	lines = append(lines, align(v.clientRows(clients))...)
	if width > 0 {
		for i := range lines {
			lines[i] = ansi.Truncate(lines[i], width, "…")
		}
	}
	return lines
}

// head returns the lines about the whole.
func (v *topView) head(paint func(colour, text string) string) []string {
	state := paint(green, v.State)
	if v.State != "ready" {
		state = paint(red, strings.ToUpper(v.State))
	}
	if len(v.NotReady) > 0 {
		state += ": " + strings.ReplaceAll(strings.Join(v.NotReady, "; "), "\n", "; ")
	}
	var sessions, rates, workers []string
	for _, p := range v.Protocols {
		sessions = append(sessions, fmt.Sprintf("%s %d", p.Protocol, p.Sessions))
	}
	for _, t := range v.Traffic {
		if t.Direction != "hairpin" || t.PacketsPerSecond > 0 {
			rates = append(rates, fmt.Sprintf("%s %spps %sbit/s", t.Direction, metric(t.PacketsPerSecond), metric(8*t.BytesPerSecond)))
		}
	}
	for _, w := range v.Workers {
		workers = append(workers, w.String())
	}
	return []string{
		fmt.Sprintf("nat64d %s  %s  up %s  %s  every %v", v.Version, state, human(v.Uptime), v.Time.Format(time.TimeOnly), time.Duration(v.Interval).Round(100*time.Millisecond)),
		fmt.Sprintf("sessions  %s   clients %d", strings.Join(sessions, "  "), v.Total),
		"rates     " + strings.Join(rates, "   "),
		"workers   " + strings.Join(workers, "  "),
	}
}

// String returns the worker in a few characters.
func (w *topWorker) String() string {
	return fmt.Sprintf("%s %.0f%% on %s", w.Side, 100*w.Busy, w.Processors)
}

func (v *topView) poolRows(n int) [][]string {
	rows := [][]string{{"POOL4", "PROTO", "SIZE", "USED", "HELD", "FREE", "PEAK"}}
	for _, r := range v.Pool4[:n] {
		rows = append(rows, []string{r.Address.String(), r.Protocol, fmt.Sprint(r.Size), share(r.Used, r.Size), fmt.Sprint(r.Held), fmt.Sprint(r.Free), share(r.Peak, r.Size)})
	}
	if len(v.Pool4) == 0 {
		rows = append(rows, []string{"is empty: no client can begin a flow (nat64ctl pool4 add)"})
	}
	return rows
}

func (v *topView) dropRows(n int) [][]string {
	rows := [][]string{{"DROPS", "PER SECOND", "TOTAL", "MEANING"}}
	for _, d := range v.Drops[:n] {
		rows = append(rows, []string{d.Reason, metric(d.PerSecond), fmt.Sprint(d.Total), d.Help})
	}
	return rows
}

func (v *topView) clientRows(n int) [][]string {
	title := func(text, order string) string {
		if v.SortedBy == order {
			return text + "*"
		}
		return text
	}
	rows := [][]string{{"CLIENT", title("PORTS", "ports"), title("SESSIONS", "sessions"), title("BIT/S", "rate"), "PPS", title("BYTES", "bytes"), title("PACKETS", "packets")}}
	for _, c := range v.Clients[:n] {
		rows = append(rows, clientRow(&c))
	}
	return rows
}

func clientRow(c *control.ClientUse) []string {
	return []string{
		c.Client.String(), fmt.Sprint(c.Ports), fmt.Sprint(c.Sessions), metric(8 * c.BytesPerSecond), metric(c.PacketsPerSecond),
		metric(float64(c.Bytes6To4 + c.Bytes4To6)), metric(float64(c.Packets6To4 + c.Packets4To6)),
	}
}

// align returns rows as lines whose columns have the same width.
func align(rows [][]string) (lines []string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			if i < len(row)-1 {
				cell = fmt.Sprintf("%-*s%s", widths[i], cell, gap)
			}
			b.WriteString(cell)
		}
		lines = append(lines, b.String())
	}
	return lines
}

// metric returns a number with three digits and a prefix of SI.
func metric(n float64) string {
	prefixes := []string{"", "k", "M", "G", "T", "P", "E"}
	i := 0
	for ; n >= 999.5 && i < len(prefixes)-1; i++ {
		n /= 1000
	}
	switch {
	case i == 0 && n == float64(int(n)), n >= 99.95:
		return fmt.Sprintf("%.0f%s", n, prefixes[i])
	case n >= 9.995:
		return fmt.Sprintf("%.1f%s", n, prefixes[i])
	}
	return fmt.Sprintf("%.2f%s", n, prefixes[i])
}
