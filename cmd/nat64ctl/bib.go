package main

import (
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newBIB(a *app) *cobra.Command {
	c := group("bib", "bindings: which client has which pool4 port")
	c.AddCommand(newBIBAdd(a), newBIBRemove(a), newBIBList(a))
	return c
}

func newBIBList(a *app) *cobra.Command {
	var flags filterFlags
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"display"},
		Short:   "show bindings",
		Long:    "Show bindings, in no particular order unless --sort gives one. The port of an ICMP query is its Identifier.",
		Example: "  nat64ctl bib list --client 2001:db8::/64 --sort -sessions --limit 10",
		Args:    none,
	}
	flags.addCommon(c)
	flags.addListing(c, control.BindingOrders())
	a.watched(c, func(c *cobra.Command, _ []string) error {
		f, err := flags.filter(c, control.BindingOrders())
		if err != nil {
			return err
		}
		if flags.count {
			n, err := a.client().CountBindings(c.Context(), f)
			return a.printCount(n.Count, n, err)
		}
		unhurried()
		p := newPrinter(a, bindingColumns)
		if err := a.client().Bindings(c.Context(), f, p.add); err != nil {
			return err
		}
		return p.end()
	})
	return c
}

var bindingColumns = []column[control.Binding]{
	{"PROTO", "protocol", func(b control.Binding) string { return b.Protocol }, nil},
	{"CLIENT", "", func(b control.Binding) string { return b.Client.String() }, nil},
	{"", "client", func(b control.Binding) string { return b.Client.Addr().String() }, nil},
	{"", "client_port", func(b control.Binding) string { return port(b.Client) }, nil},
	{"MAPPED", "", func(b control.Binding) string { return b.Mapped.String() }, nil},
	{"", "mapped", func(b control.Binding) string { return b.Mapped.Addr().String() }, nil},
	{"", "mapped_port", func(b control.Binding) string { return port(b.Mapped) }, nil},
	{"SESSIONS", "sessions", func(b control.Binding) string { return strconv.Itoa(b.Sessions) }, nil},
	{"KIND", "static", kind, func(b control.Binding) string { return strconv.FormatBool(b.Static) }},
}

func port(a netip.AddrPort) string { return strconv.Itoa(int(a.Port())) }

func kind(b control.Binding) string {
	if b.Static {
		return "static"
	}
	return "dynamic"
}
