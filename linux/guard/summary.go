//go:build linux

package guard

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Summary describes the guard's table, and lists the chains of all others that are attached to a hook, for a bug report.
func Summary() (string, error) {
	l, err := read()
	if l == nil {
		return "", err
	}
	var b strings.Builder
	if !l.exists {
		fmt.Fprintf(&b, "table netdev %s: does not exist\n", tableName)
	} else {
		fmt.Fprintf(&b, "table netdev %s: flags %d\n", tableName, l.flags)
	}
	for _, name := range slices.Sorted(maps.Keys(l.chains)) {
		c := l.chains[name]
		fmt.Fprintf(&b, "  chain %s: device %q, %d rules\n", name, c.device, len(c.rules))
	}
	for _, name := range slices.Sorted(maps.Keys(l.sets)) {
		fmt.Fprintf(&b, "  set %s: %d elements\n", name, len(l.elements[name]))
	}
	c, err := connect()
	if err != nil {
		return b.String(), err
	}
	chains, err := c.ListChains()
	if err != nil {
		return b.String(), fmt.Errorf("nftables: list chains: %w", err)
	}
	for _, ch := range chains {
		if ch.Hooknum == nil || ch.Table == nil {
			continue
		}
		fmt.Fprintf(&b, "family %d table %s chain %s: %s, hook %d", ch.Table.Family, ch.Table.Name, ch.Name, ch.Type, *ch.Hooknum)
		if ch.Priority != nil {
			fmt.Fprintf(&b, ", priority %d", *ch.Priority)
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}
