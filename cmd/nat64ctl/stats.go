package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newStats(a *app) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "stats",
		Short: "show every counter and drop reason with its meaning",
		Long: `Show the counters, and the drop reasons, with their meaning. Their names are those of the metrics (metrics.listen). Ratios
and times have no line here: /metrics has them.

For scripts that were written for earlier versions, --all -o csv repeats the counters at the end with the names of that time.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
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
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "also those that are zero")
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

var counterColumns = []column[control.Counter]{
	{"COUNTER", "name", func(c control.Counter) string { return c.Name + labels(c) }, func(c control.Counter) string { return c.Name }},
	{"", "labels", labels, nil},
	{"VALUE", "value", func(c control.Counter) string { return strconv.FormatUint(c.Value, 10) }, nil},
	{"", "kind", func(c control.Counter) string { return c.Kind }, nil},
	{"MEANING", "help", func(c control.Counter) string { return c.Help }, nil},
}

// labels returns the labels of a counter in the notation of metrics.
func labels(c control.Counter) string {
	if len(c.Labels) == 0 {
		return ""
	}
	var l []string
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		l = append(l, fmt.Sprintf("%s=%q", k, c.Labels[k]))
	}
	return "{" + strings.Join(l, ",") + "}"
}
