package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

// protocolFlags are --tcp, --udp and --icmp.
type protocolFlags struct{ tcp, udp, icmp bool }

func (p *protocolFlags) add(c *cobra.Command) {
	c.Flags().BoolVarP(&p.tcp, "tcp", "t", false, "TCP (default: all three protocols)")
	c.Flags().BoolVarP(&p.udp, "udp", "u", false, "UDP")
	c.Flags().BoolVarP(&p.icmp, "icmp", "i", false, "ICMP queries, whose ports are their Identifiers")
}

// names returns the selected protocols; none selects all.
func (p *protocolFlags) names() (names []string) {
	for _, f := range []struct {
		set  bool
		name string
	}{{p.tcp, "tcp"}, {p.udp, "udp"}, {p.icmp, "icmp"}} {
		if f.set {
			names = append(names, f.name)
		}
	}
	return names
}

// filterFlags select entries of a listing, and its order.
type filterFlags struct {
	protocolFlags
	client, peer, mapped, port, older string
	states                            []string
	sort                              string
	limit                             int
	count                             bool
}

// addCommon adds the flags that select bindings or sessions.
func (f *filterFlags) addCommon(c *cobra.Command) {
	f.protocolFlags.add(c)
	c.Flags().StringVar(&f.client, "client", "", "only of this IPv6 address or prefix")
	c.Flags().StringVar(&f.mapped, "mapped", "", "only with this pool4 address or prefix, or address:port, or address:first-last")
	c.Flags().StringVar(&f.port, "port", "", "only with this port, or range of ports, on any side")
}

// addSession adds the flags that select sessions.
func (f *filterFlags) addSession(c *cobra.Command) {
	f.addEvents(c)
	c.Flags().StringVar(&f.older, "older", "", "only those that no packet has prolonged for so long, such as 10m")
}

// addEvents adds the flags that select sessions as they begin, change and end.
func (f *filterFlags) addEvents(c *cobra.Command) {
	f.addCommon(c)
	c.Flags().StringVar(&f.peer, "peer", "", "only with this IPv4 address or prefix")
	c.Flags().StringSliceVar(&f.states, "state", nil, "only TCP sessions in this state, such as established; several separated by commas")
	_ = c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(control.States, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
}

// addListing adds the flags of a listing that can be sorted by these fields.
func (f *filterFlags) addListing(c *cobra.Command, orders []string) {
	c.Flags().IntVar(&f.limit, "limit", 0, "at most so many; 0: no limit")
	c.Flags().StringVar(&f.sort, "sort", "", "sort by "+strings.Join(orders, ", ")+"; with a minus sign before it descending (100000 entries at most)")
	c.Flags().BoolVar(&f.count, "count", false, "show only how many there are")
	var both []string
	for _, o := range orders {
		both = append(both, o, "-"+o)
	}
	_ = c.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(both, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
}

// filter returns the filter for the flags. orders are those of addListing.
func (f *filterFlags) filter(c *cobra.Command, orders []string) (filter control.Filter, err error) {
	filter.Protocols, filter.Limit, filter.Order = f.names(), f.limit, control.ParseOrder(f.sort)
	switch {
	case f.limit < 0:
		err = fmt.Errorf("--limit %d must not be negative", f.limit)
	case f.count && f.limit > 0:
		err = errors.New("--count counts all: leave out --limit")
	case f.count && f.sort != "":
		err = errors.New("--count has no order: leave out --sort")
	case f.sort != "" && !slices.Contains(orders, filter.Order.Field):
		err = fmt.Errorf("--sort %s: use %s, with a minus sign before it for a descending order", f.sort, strings.Join(orders, ", "))
	}
	if err != nil {
		return filter, usageError{err, c.CommandPath()}
	}
	for _, field := range []struct {
		text  string
		parse func(string) error
	}{
		{f.client, func(s string) (err error) { filter.Client, err = control.ParseClient(s); return err }},
		{f.peer, func(s string) (err error) { filter.Peer, err = control.ParsePeer(s); return err }},
		{f.mapped, func(s string) (err error) { filter.Mapped, err = control.ParseMapped(s); return err }},
		{f.port, func(s string) (err error) { filter.Ports, err = control.ParsePorts(s); return err }},
		{f.older, func(s string) (err error) { filter.Older, err = control.ParseOlder(s); return err }},
	} {
		if field.text == "" {
			continue
		}
		if err := field.parse(field.text); err != nil {
			return filter, err
		}
	}
	for _, text := range f.states {
		state, err := control.ParseState(text)
		if err != nil {
			return filter, err
		}
		filter.States = append(filter.States, state)
	}
	return filter, nil
}
