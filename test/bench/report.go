package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// report contains all results.
type report struct {
	Machine     machine  `json:"machine"`
	Link        string   `json:"link"`
	Quick       bool     `json:"quick"`
	Repetitions int      `json:"repetitions"`
	Gateways    []string `json:"gateways"` // ratios refer to the first one
	Rows        []*row   `json:"rows"`
	Failures    []string `json:"failures,omitempty"` // measurements that failed
}

// row is one measurement of all gateways.
type row struct {
	Name   string               `json:"name"`
	Values map[string][]float64 `json:"values"` // of each repetition, by gateway
}

// put adds a value. Rows are in the order of their first value.
func (r *report) put(gateway, name string, value float64) {
	i := slices.IndexFunc(r.Rows, func(w *row) bool { return w.Name == name })
	if i < 0 {
		i = len(r.Rows)
		r.Rows = append(r.Rows, &row{name, map[string][]float64{}})
	}
	r.Rows[i].Values[gateway] = append(r.Rows[i].Values[gateway], value)
}

func (r *report) fail(gateway, workload string, err error) {
	r.Failures = append(r.Failures, fmt.Sprintf("not measured: %s: %s: %v", gateway, workload, err))
}

// median returns the median of the values; ok is false if there are none.
func median(values []float64) (m float64, ok bool) {
	if len(values) == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half], true
	}
	return (sorted[half-1] + sorted[half]) / 2, true
}

// table writes a readable Markdown table of the medians, each followed by the ratio to the first gateway.
func (r *report) table(w io.Writer) error {
	lines := [][]string{append([]string{"measure"}, r.Gateways...)}
	for _, row := range r.Rows {
		line := []string{row.Name}
		for _, g := range r.Gateways {
			line = append(line, row.cell(g, r.Gateways[0]))
		}
		lines = append(lines, line)
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, c := range line {
			widths[i] = max(widths[i], len(c))
		}
	}
	rule := make([]string, len(widths))
	for i := range rule {
		rule[i] = strings.Repeat("-", widths[i]-1) + ":"
	}
	rule[0] = strings.Repeat("-", widths[0])
	for _, line := range slices.Insert(lines, 1, rule) {
		for i, c := range line {
			format := "| %*s "
			if i == 0 {
				format = "| %-*s "
			}
			if _, err := fmt.Fprintf(w, format, widths[i], c); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w, "|"); err != nil {
			return err
		}
	}
	return r.footer(w)
}

func (r *report) footer(w io.Writer) error {
	m := r.Machine
	_, err := fmt.Fprintf(w, "\n%s, %d processors (ends on one, the gateway on another), Linux %s, %s links, %s, %s; medians of %d; in brackets: divided by %s\n",
		m.Processor, m.Processors, m.Kernel, r.Link, m.Version, m.Date.Format("2006-01-02"), r.Repetitions, r.Gateways[0])
	for _, f := range slices.Concat(r.doubts(), r.Failures) {
		if err == nil {
			_, err = fmt.Fprintln(w, f)
		}
	}
	return err
}

// noiseRow is the row of the load by other programs; above doubtful, the other rows are not meaningful.
const (
	noiseRow = "host noise before, % of a processor"
	doubtful = 10
)

// doubts lists the gateways that were measured on a busy machine.
func (r *report) doubts() (lines []string) {
	for _, row := range r.Rows {
		for _, g := range r.Gateways {
			if m, ok := median(row.Values[g]); ok && row.Name == noiseRow && m > doubtful {
				lines = append(lines, fmt.Sprintf("do not trust %s: others used %.0f %% of a processor", g, m))
			}
		}
	}
	return lines
}

// cell returns the median of a gateway and its ratio to that of another one.
func (w *row) cell(gateway, base string) string {
	m, ok := median(w.Values[gateway])
	if !ok {
		return "-"
	}
	text := number(m)
	if b, ok := median(w.Values[base]); ok && b > 0 && gateway != base {
		text += fmt.Sprintf(" (%.2f)", m/b)
	}
	return text
}

// number formats a value with at least three significant digits.
func number(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func (r *report) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
