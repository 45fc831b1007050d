package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

const bindingHelp = `PROTO is tcp, udp or icmp, several of them with commas, or all. The pool4 side is written 10.0.2.15:7080, the client
[2001:db8::5]:80, in either order; a range of ports is 8000-8100. Jool's # may stand before the port:
10.0.2.15#7080 2001:db8::5#80. For ICMP the ports are Identifiers.`

func newBIBAdd(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "add PROTO V4:PORTS [V6]:PORTS",
		Short: "add static bindings from ports of pool4 to ports of a client",
		Long: "Add static bindings from ports of a pool4 address to the same number of ports of a client, so that IPv4 hosts reach it.\n\n" + bindingHelp + `
The address must be one of pool4; its ports need not lie in the ranges of pool4.`,
		Example: `  nat64ctl bib add tcp 10.0.2.15:7080 [2001:db8::5]:80
  nat64ctl bib add tcp,udp 10.0.2.15:8000-8100 [2001:db8::5]:8000-8100`,
		Args: arguments([]string{"PROTO", "V4:PORTS", "[V6]:PORTS"}, nil),
		RunE: func(c *cobra.Command, args []string) error {
			change, err := bindingChange(args)
			if err != nil {
				return err
			}
			change.Force = force
			r, err := a.client().AddBinding(c.Context(), change)
			return a.printBindings(r, err, "nothing to add: the bindings are there already")
		},
	}
	c.Flags().BoolVar(&force, "force", false, "add even ports that programs of the host listen on")
	return c
}

func newBIBRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove PROTO V4[:PORTS]|V6|[V6]:PORTS [V6|[V6]:PORTS]",
		Short: "remove bindings and end their sessions",
		Long: "Remove static bindings and end dynamic ones, with their sessions. One of the two sides is enough, and an address alone\n" +
			"stands for all of its ports.\n\n" + bindingHelp,
		Example: `  nat64ctl bib remove tcp 10.0.2.15:7080
  nat64ctl bib remove all 2001:db8::5`,
		Args: arguments([]string{"PROTO", "V4[:PORTS] or V6 or [V6]:PORTS"}, []string{"the other"}),
		RunE: func(c *cobra.Command, args []string) error {
			change, err := bindingChange(args)
			if err != nil {
				return err
			}
			r, err := a.client().RemoveBinding(c.Context(), change)
			return a.printBindings(r, err, "nothing to remove")
		},
	}
}

// bindingChange assigns the arguments to the two sides: only an IPv6 address has more than one colon. The daemon parses them.
func bindingChange(args []string) (c control.BindingChange, err error) {
	if args[0] != "all" {
		c.Protocols = strings.Split(args[0], ",")
	}
	for _, s := range args[1:] {
		side := &c.Mapped
		if strings.Count(s, ":") > 1 {
			side = &c.Client
		}
		if *side != "" {
			return c, &control.Error{
				Message: fmt.Sprintf("%s and %s are on the same side", *side, s),
				Hint:    "give one as 10.0.2.15:7080, the other as [2001:db8::5]:80",
			}
		}
		*side = s
	}
	return c, nil
}

// bindingRow is a line of csv for a change.
type bindingRow struct {
	action string
	control.BindingRange
}

var bindingRowColumns = []column[bindingRow]{
	{"", "action", func(r bindingRow) string { return r.action }, nil},
	{"", "protocol", func(r bindingRow) string { return r.Protocol }, nil},
	{"", "client", func(r bindingRow) string { return r.Client.String() }, nil},
	{"", "client_port", func(r bindingRow) string { return strconv.Itoa(int(r.ClientPort)) }, nil},
	{"", "mapped", func(r bindingRow) string { return r.Mapped.String() }, nil},
	{"", "mapped_port", func(r bindingRow) string { return strconv.Itoa(int(r.MappedPort)) }, nil},
	{"", "count", func(r bindingRow) string { return strconv.Itoa(r.Count) }, nil},
}

// printBindings prints the result of a change; idle is the text for no change.
func (a *app) printBindings(r control.BindingResult, err error, idle string) error {
	if err != nil {
		return err
	}
	a.warn(r.Warnings)
	switch a.format {
	case formatJSON:
		return printObject(a.out, r)
	case formatCSV:
		var rows []bindingRow
		for _, b := range r.Added {
			rows = append(rows, bindingRow{"added", b})
		}
		for _, b := range r.Removed {
			rows = append(rows, bindingRow{"removed", b})
		}
		return printAll(a, bindingRowColumns, rows)
	}
	if len(r.Added)+len(r.Removed)+r.Bindings+r.Sessions == 0 {
		fmt.Fprintln(a.out, idle)
	}
	for _, s := range bindingSentences(r.Added) {
		fmt.Fprintln(a.out, "added "+s)
	}
	for _, s := range bindingSentences(r.Removed) {
		fmt.Fprintln(a.out, "removed "+s)
	}
	if r.Bindings+r.Sessions > 0 {
		fmt.Fprintf(a.out, "ended %s and %s\n", count(r.Bindings, "binding"), count(r.Sessions, "session"))
	}
	return nil
}

// bindingSentences returns sentences about bindings, which combine ranges of ports and protocols.
func bindingSentences(ranges []control.BindingRange) (lines []string) {
	protocols := map[string][]string{}
	for _, b := range joinPorts(ranges) {
		s := portRange(b.Mapped, b.MappedPort, b.Count) + " to " + portRange(b.Client, b.ClientPort, b.Count)
		if len(protocols[s]) == 0 {
			lines = append(lines, s)
		}
		protocols[s] = append(protocols[s], b.Protocol)
	}
	for i, s := range lines {
		slices.Sort(protocols[s])
		lines[i] = s + " for " + and(protocols[s])
	}
	return lines
}

// joinPorts combines bindings of consecutive ports into ranges.
func joinPorts(ranges []control.BindingRange) (joined []control.BindingRange) {
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, func(a, b control.BindingRange) int {
		return cmp.Or(strings.Compare(a.Protocol, b.Protocol), a.Mapped.Compare(b.Mapped), cmp.Compare(a.MappedPort, b.MappedPort))
	})
	for _, r := range ranges {
		if n := len(joined); n > 0 && follows(joined[n-1], r) {
			joined[n-1].Count += r.Count
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// follows reports whether the ports of b come right after those of a, on both sides.
func follows(a, b control.BindingRange) bool {
	end := a
	end.MappedPort, end.ClientPort, end.Count = a.MappedPort+uint16(a.Count), a.ClientPort+uint16(a.Count), b.Count
	return end == b
}

// portRange returns an address with n consecutive ports.
func portRange(a netip.Addr, first uint16, n int) string {
	s := netip.AddrPortFrom(a, first).String()
	if n > 1 {
		s += fmt.Sprintf("-%d", int(first)+n-1)
	}
	return s
}
