package main

import (
	"fmt"
	"maps"
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
		Args:  none,
		RunE: func(c *cobra.Command, _ []string) error {
			counters, err := a.client().Stats(c.Context())
			if err != nil {
				return err
			}
			if !all {
				counters = slices.DeleteFunc(counters, func(c control.Counter) bool { return c.Value == 0 })
			}
			return printAll(a, counterColumns, counters)
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "also those that are zero")
	return c
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
