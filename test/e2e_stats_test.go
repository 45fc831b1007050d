package test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"nat64d/lab"
	"nat64d/ops/control"
	"nat64d/ops/metrics"
)

// A running daemon shows exactly the counters of the catalogue, with the kind and labels that it has for them.
func TestStatsAreTheCatalogue(t *testing.T) {
	l := network(t, lab.Options{})
	g := startConfig(t, l, fmt.Sprintf("pool4: [ { address: %s } ]\ndns64: { enabled: true, listen: [\"[%s]:53\"], upstreams: [192.0.2.2] }\n",
		lab.Spare4, lab.Gateway6))
	rows := map[string]*metrics.Row{}
	for id := range metrics.IDs {
		rows[id.Row().Name] = id.Row()
	}
	var all []control.Counter
	decode(t, g.must("stats", "--all", "-o", "json"), &all)
	shown := map[string]bool{}
	for _, c := range all {
		row := rows[c.Name]
		if row == nil {
			t.Errorf("the catalogue has no %s", c.Name)
			continue
		}
		shown[c.Name] = true
		if c.Kind != row.Kind || !slices.Equal(slices.Sorted(maps.Keys(c.Labels)), slices.Sorted(slices.Values(row.Labels))) {
			t.Errorf("%+v is not as in the catalogue: %+v", c, row)
		}
		if c.Help != row.Help && c.Name != metrics.Drops.Row().Name {
			t.Errorf("%s: the help is %q, the catalogue has %q", c.Name, c.Help, row.Help)
		}
	}
	for name := range rows {
		if !shown[name] {
			t.Errorf("nothing shows %s", name)
		}
	}
	g.stop()
}
