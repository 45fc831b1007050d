package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
	"nat64d/pool4"
)

func newPool4(a *app) *cobra.Command {
	c := group("pool4", "IPv4 addresses and ports that clients appear from")
	c.AddCommand(newPool4Add(a), newPool4Remove(a), newPool4List(a), newPool4Usage(a), newPool4Flush(a))
	return c
}

const rangeHelp = `ADDRESS is an IPv4 address, a subnet such as 10.0.2.0/28, or a range such as 10.0.2.1-10.0.2.9. PORTS is a range such
as 7000-8000, or one port; ADDRESS:PORTS in one word will do. ADDRESS can also be interface:NAME, for the address that the interface has
at the time. Without --tcp, --udp or --icmp it is for all three; for ICMP the ports are Identifiers.`

var (
	address = []string{"ADDRESS"}
	ports   = []string{"PORTS"}
)

func newPool4Add(a *app) *cobra.Command {
	var protocols protocolFlags
	var force bool
	c := &cobra.Command{
		Use:   "add ADDRESS [PORTS]",
		Short: "add addresses and ports",
		Long: "Add addresses and ports to pool4.\n\n" + rangeHelp + `
Without PORTS it is 1024-65535, and all Identifiers; for interface:NAME, the ports above net.ipv4.ip_local_port_range. nat64d merges ranges that overlap or touch.`,
		Example: "  nat64ctl pool4 add 10.0.2.15 7000-8000\n  nat64ctl pool4 add interface:eth1",
		Args:    arguments(address, ports),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := a.client().AddPool4(c.Context(), poolChange(args, &protocols, force))
			return a.printChange(r, err, "nothing to add: pool4 has it already")
		},
	}
	protocols.add(c)
	c.Flags().BoolVar(&force, "force", false, "add even ports that programs of the host listen on or need")
	return c
}

func newPool4Remove(a *app) *cobra.Command {
	var protocols protocolFlags
	c := &cobra.Command{
		Use:   "remove ADDRESS [PORTS]",
		Short: "remove addresses and ports, with their bindings and sessions",
		Long: "Remove addresses and ports from pool4. Bindings and sessions that use them end.\n\n" + rangeHelp + `
Without PORTS it is all ports of the address.`,
		Example: "  nat64ctl pool4 remove 10.0.2.15 7000-7099 --udp",
		Args:    arguments(address, ports),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := a.client().RemovePool4(c.Context(), poolChange(args, &protocols, false))
			return a.printChange(r, err, "nothing to remove")
		},
	}
	protocols.add(c)
	return c
}

func newPool4Flush(a *app) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "flush --yes",
		Short: "remove all addresses and ports, and end all sessions",
		Args:  none,
		RunE: func(c *cobra.Command, _ []string) error {
			if !yes {
				return usageError{errors.New("flush ends every session; if that is meant, add --yes"), c.CommandPath()}
			}
			r, err := a.client().FlushPool4(c.Context())
			return a.printChange(r, err, "pool4 was empty already")
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "confirm")
	return c
}

func newPool4List(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"display"},
		Short:   "show the ranges and their use",
		Args:    none,
	}
	a.watched(c, func(c *cobra.Command, _ []string) error {
		entries, err := a.client().Pool4(c.Context())
		if err != nil {
			return err
		}
		columns := withRules(pool4Columns, entries, func(e control.Pool4Entry) control.Pool4Rule { return e.Pool4Rule })
		if slices.ContainsFunc(entries, func(e control.Pool4Entry) bool { return e.Interface != "" }) {
			columns = append(slices.Clip(columns), interfaceColumn)
		}
		return printAll(a, columns, entries)
	})
	return c
}

var pool4Columns = []column[control.Pool4Entry]{
	{"ADDRESS", "address", func(e control.Pool4Entry) string { return addressText(e.Address) }, nil},
	{"PROTO", "protocol", func(e control.Pool4Entry) string { return e.Protocol }, nil},
	{"PORTS", "ports", func(e control.Pool4Entry) string { return e.Ports }, nil},
	{"USED", "used", func(e control.Pool4Entry) string { return strconv.Itoa(e.Used) }, nil},
	{"FREE", "free", func(e control.Pool4Entry) string { return strconv.Itoa(e.Free) }, nil},
	{"STATE", "state", func(e control.Pool4Entry) string { return e.State }, nil},
}

// interfaceColumn is there if a row of pool4 is the address of an interface.
var interfaceColumn = column[control.Pool4Entry]{"INTERFACE", "interface", func(e control.Pool4Entry) string { return e.Interface }, nil}

// withRules adds the columns of those parts of rules that an entry has.
func withRules[T any](columns []column[T], entries []T, rule func(T) control.Pool4Rule) []column[T] {
	columns = slices.Clip(columns)
	if slices.ContainsFunc(entries, func(e T) bool { return len(rule(e).Source6) > 0 }) {
		columns = append(columns, column[T]{"SOURCE6", "source6", func(e T) string { return sourcesText(rule(e).Source6) }, nil})
	}
	if slices.ContainsFunc(entries, func(e T) bool { return rule(e).Weight > 1 }) {
		columns = append(columns, column[T]{"WEIGHT", "weight", func(e T) string { return strconv.Itoa(max(rule(e).Weight, 1)) }, nil})
	}
	return columns
}

// sourcesText returns the prefixes of the clients of an address.
func sourcesText(prefixes []netip.Prefix) string {
	if len(prefixes) == 0 {
		return "others"
	}
	words := make([]string, len(prefixes))
	for i, p := range prefixes {
		words[i] = p.String()
	}
	return strings.Join(words, ",")
}

// addressText returns an address, or - for the row of an interface that has none.
func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}

// poolChange returns the request for the arguments. The daemon checks them.
func poolChange(args []string, p *protocolFlags, force bool) control.Pool4Change {
	c := control.Pool4Change{Addresses: args[0], Protocols: p.names(), Force: force}
	if len(args) > 1 {
		c.Ports = args[1]
	} else if _, _, ok := pool4.SplitInterface(args[0]); ok {
		return c // the daemon splits it
	} else if addresses, ports := pool4.Split(args[0]); ports != "" {
		c.Addresses, c.Ports = addresses, ports
	}
	return c
}

// printChange prints the result of a change; idle is the text for no change.
func (a *app) printChange(r control.Pool4Result, err error, idle string) error {
	if err != nil {
		return err
	}
	a.warn(r.Warnings)
	switch a.format {
	case formatJSON:
		return printObject(a.out, r)
	case formatCSV:
		return printAll(a, changeColumns, changeRows(r))
	}
	if len(r.Added)+len(r.Removed)+r.Bindings+r.Sessions == 0 {
		fmt.Fprintln(a.out, idle)
	}
	for _, part := range []struct {
		verb   string
		ranges []control.Pool4Range
	}{{"added ", r.Added}, {"now one range: ", r.Merged}, {"removed ", r.Removed}} {
		for _, s := range sentences(part.ranges) {
			fmt.Fprintln(a.out, part.verb+s)
		}
	}
	if r.Bindings+r.Sessions > 0 {
		fmt.Fprintf(a.out, "ended %s and %s\n", count(r.Bindings, "binding"), count(r.Sessions, "session"))
	}
	return nil
}

// changeRow is a line of csv for a change.
type changeRow struct {
	action string
	control.Pool4Range
}

var changeColumns = []column[changeRow]{
	{"", "action", func(r changeRow) string { return r.action }, nil},
	{"", "address", func(r changeRow) string { return addressText(r.Address) }, nil},
	{"", "protocol", func(r changeRow) string { return r.Protocol }, nil},
	{"", "ports", func(r changeRow) string { return r.Ports }, nil},
}

func changeRows(r control.Pool4Result) (rows []changeRow) {
	add := func(action string, ranges []control.Pool4Range) {
		for _, x := range ranges {
			rows = append(rows, changeRow{action, x})
		}
	}
	add("added", r.Added)
	add("merged", r.Merged)
	add("removed", r.Removed)
	return rows
}

// span is a range of consecutive addresses with the same ports and protocols.
type span struct {
	first, last netip.Addr
	from        string // the interface
	ports       string
	protocols   []string
}

// sentences returns sentences about ranges, which combine protocols and addresses.
func sentences(ranges []control.Pool4Range) []string {
	var lines []string
	for _, s := range spans(byPorts(ranges)) {
		addresses := s.first.String()
		switch {
		case s.from != "" && s.first.IsValid():
			addresses += " (interface:" + s.from + ")"
		case s.from != "":
			addresses = "interface:" + s.from
		case s.first != s.last:
			addresses += "-" + s.last.String()
		}
		lines = append(lines, fmt.Sprintf("%s %s for %s", addresses, s.ports, and(s.protocols)))
	}
	return lines
}

// byPorts collects the protocols for each address and ports, in the order of the input.
func byPorts(ranges []control.Pool4Range) []span {
	type key struct {
		address netip.Addr
		from    string
		ports   string
	}
	index := map[key]int{}
	var l []span
	for _, r := range ranges {
		k := key{r.Address, r.Interface, r.Ports}
		i, ok := index[k]
		if !ok {
			i = len(l)
			index[k] = i
			l = append(l, span{r.Address, r.Address, r.Interface, r.Ports, nil})
		}
		l[i].protocols = append(l[i].protocols, r.Protocol)
	}
	return l
}

// spans combines consecutive addresses with the same ports and protocols.
func spans(l []span) []span {
	var joined []span
	open := map[string]int{} // the last span of these ports and protocols
	for _, s := range l {
		k := s.from + " " + s.ports + and(s.protocols)
		if i, ok := open[k]; ok && s.from == "" && joined[i].last.Next() == s.first {
			joined[i].last = s.last
			continue
		}
		open[k] = len(joined)
		joined = append(joined, s)
	}
	return joined
}
