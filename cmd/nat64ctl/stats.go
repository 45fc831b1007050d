package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newStats(a *app) *cobra.Command {
	var all bool
	var diff time.Duration
	c := &cobra.Command{
		Use:   "stats",
		Short: "show every counter and drop reason with its meaning",
		Long: `Show the counters, and the drop reasons, with their meaning. Their names are those of the metrics (metrics.listen). Ratios
and times have no line here: /metrics has them.

For scripts that were written for earlier versions, --all -o csv repeats the counters at the end with the names of that time.`,
		Example: `  nat64ctl stats --all
  nat64ctl stats --diff 5s`,
		Args: none,
	}
	a.watched(c, func(c *cobra.Command, _ []string) error {
		if c.Flags().Changed("diff") {
			if diff < leastWatch {
				return usageError{fmt.Errorf("--diff %v is too short: use %v or more", diff, leastWatch), c.CommandPath()}
			}
			return a.printDiff(c.Context(), diff, all)
		}
		counters, err := a.client().Stats(c.Context())
		if err != nil {
			return err
		}
		switch {
		case !all:
			counters = slices.DeleteFunc(counters, func(c control.Counter) bool { return c.Value == 0 })
		case a.format == formatCSV:
			counters = append(counters, underOldNames(counters)...)
		}
		return printAll(a, counterColumns, counters)
	})
	c.Flags().BoolVarP(&all, "all", "a", false, "also those that are zero")
	c.Flags().DurationVar(&diff, "diff", 0, "show how much the counters change within this time, and how much in a second")
	return c
}

// underOldNames returns the counters that had another name before version 1, with that. A counter of that time can be the sum of
// several of today.
func underOldNames(counters []control.Counter) (list []control.Counter) {
	at := map[string]int{}
	for _, c := range counters {
		if c.Old == "" {
			continue
		}
		i, ok := at[c.Old]
		if !ok {
			i = len(list)
			at[c.Old] = i
			name, labels := splitLabels(c.Old)
			list = append(list, control.Counter{Name: name, Labels: labels, Kind: c.Kind, Help: c.Help})
		}
		list[i].Value += c.Value
	}
	return list
}

// oldLabel is a label in the notation of metrics.
var oldLabel = regexp.MustCompile(`([a-z0-9]+)="([^"]*)"`)

// splitLabels separates the labels from a name in the notation of metrics.
func splitLabels(text string) (name string, labels map[string]string) {
	name, rest, _ := strings.Cut(text, "{")
	for _, m := range oldLabel.FindAllStringSubmatch(rest, -1) {
		if labels == nil {
			labels = map[string]string{}
		}
		labels[m[1]] = m[2]
	}
	return name, labels
}

// counterDiff is the change of a counter within a time.
type counterDiff struct {
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels,omitempty"`
	Value     uint64            `json:"value"` // at the end
	Diff      int64             `json:"diff"`  // negative if a number of rows in a table has become less
	PerSecond float64           `json:"per_second"`
	Help      string            `json:"help"`
	Kind      string            `json:"kind"`
}

// printDiff prints how much the counters change within a time, in the order of stats; without all only those that change.
func (a *app) printDiff(ctx context.Context, within time.Duration, all bool) error {
	before, err := a.client().Stats(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(within):
	}
	after, err := a.client().Stats(ctx)
	if err != nil {
		return err
	}
	var rows []counterDiff
	for _, d := range differences(before, after, time.Since(began)) {
		if all || d.Diff != 0 {
			rows = append(rows, d)
		}
	}
	return printAll(a, diffColumns, rows)
}

// differences returns the change of each counter of after. A counter that was not there before has been zero.
func differences(before, after []control.Counter, elapsed time.Duration) (rows []counterDiff) {
	old := make(map[string]uint64, len(before))
	for _, c := range before {
		old[c.Name+labels(c)] = c.Value
	}
	for _, c := range after {
		diff := int64(c.Value - old[c.Name+labels(c)])
		rate := math.Round(float64(diff)/elapsed.Seconds()*10) / 10
		rows = append(rows, counterDiff{c.Name, c.Labels, c.Value, diff, rate, c.Help, c.Kind})
	}
	return rows
}

var diffColumns = []column[counterDiff]{
	{"COUNTER", "name", func(d counterDiff) string { return d.Name + labelText(d.Labels) }, func(d counterDiff) string { return d.Name }},
	{"", "labels", func(d counterDiff) string { return labelText(d.Labels) }, nil},
	{"", "value", func(d counterDiff) string { return strconv.FormatUint(d.Value, 10) }, nil},
	{"DIFF", "diff", func(d counterDiff) string { return strconv.FormatInt(d.Diff, 10) }, nil},
	{"PER SECOND", "per_second", func(d counterDiff) string { return strconv.FormatFloat(d.PerSecond, 'f', -1, 64) }, nil},
	{"", "kind", func(d counterDiff) string { return d.Kind }, nil},
	{"MEANING", "help", func(d counterDiff) string { return d.Help }, nil},
}

var counterColumns = []column[control.Counter]{
	{"COUNTER", "name", func(c control.Counter) string { return c.Name + labels(c) }, func(c control.Counter) string { return c.Name }},
	{"", "labels", labels, nil},
	{"VALUE", "value", func(c control.Counter) string { return strconv.FormatUint(c.Value, 10) }, nil},
	{"", "kind", func(c control.Counter) string { return c.Kind }, nil},
	{"MEANING", "help", func(c control.Counter) string { return c.Help }, nil},
}

// labels returns the labels of a counter in the notation of metrics.
func labels(c control.Counter) string { return labelText(c.Labels) }

func labelText(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	var l []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		l = append(l, fmt.Sprintf("%s=%q", k, labels[k]))
	}
	return "{" + strings.Join(l, ",") + "}"
}
