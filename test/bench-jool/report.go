//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report contains all figures.
type report struct {
	versions    string
	repetitions int
	gateways    []gateway
	rows        []*row
	failures    []string // measurements that failed
}

// row is one measurement of all gateways.
type row struct {
	name, unit string
	values     map[string][]float64 // of each round, by gateway
}

// put adds a figure. Rows are in the order of their first figure.
func (r *report) put(gateway, name, unit string, value float64) {
	i := slices.IndexFunc(r.rows, func(w *row) bool { return w.name == name })
	if i < 0 {
		i = len(r.rows)
		r.rows = append(r.rows, &row{name, unit, map[string][]float64{}})
	}
	r.rows[i].values[gateway] = append(r.rows[i].values[gateway], value)
}

// fail adds a measurement that failed, and returns its line.
func (r *report) fail(gateway, workload string, err error) string {
	line := fmt.Sprintf("not measured: %s: %s: %v", gateway, workload, err)
	r.failures = append(r.failures, line)
	return line
}

// median returns the median of the values; ok is false if there are none.
func median(values []float64) (m float64, ok bool) {
	if len(values) == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2, true
}

// markdown returns a table of the medians, each followed by the ratio to Jool's, and a line with versions and date.
func (r *report) markdown() string {
	var b strings.Builder
	b.WriteString("| instructions |")
	for _, g := range r.gateways {
		b.WriteString(" " + g.name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(r.gateways)) + "\n")
	for _, w := range r.rows {
		name := w.name
		if w.unit != "" {
			name += ", " + w.unit
		}
		b.WriteString("| " + name + " |")
		for _, g := range r.gateways {
			b.WriteString(" " + w.cell(g.name) + " |")
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n%s; %s; medians of %d. In brackets: divided by Jool's figure.\n", r.versions, time.Now().Format("2 January 2006"), r.repetitions)
	for _, f := range r.failures {
		b.WriteString("\n" + f + "\n")
	}
	return b.String()
}

// cell returns the median of a gateway and its ratio to Jool's.
func (w *row) cell(gateway string) string {
	m, ok := median(w.values[gateway])
	if !ok {
		return "-"
	}
	text := number(m)
	if base, ok := median(w.values[jool]); ok && base > 0 && gateway != jool {
		text += fmt.Sprintf(" (%.2f)", m/base)
	}
	return text
}

// number formats a value with three significant digits, or more if it is long.
func number(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// The table of a page is between these marks.
const (
	beginMark = "<!-- make bench-jool writes what follows -->\n"
	endMark   = "<!-- end -->\n"
)

// writePage replaces the table of a page.
func writePage(path, table string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := replaceTable(string(b), table)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func replaceTable(text, table string) (string, error) {
	before, rest, begun := strings.Cut(text, beginMark)
	_, after, ended := strings.Cut(rest, endMark)
	if !begun || !ended {
		return "", fmt.Errorf("has no marks for the table: must contain %q and %q", beginMark, endMark)
	}
	return before + beginMark + "\n" + table + "\n" + endMark + after, nil
}
