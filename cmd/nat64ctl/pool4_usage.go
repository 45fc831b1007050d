package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newPool4Usage(a *app) *cobra.Command {
	var clients int
	c := &cobra.Command{
		Use:   "usage",
		Short: "show how full each address is, its peak, and the clients with most ports",
		Long: `Show for each address and protocol the ports in pool4 (SIZE), those with a binding (USED), those that rest after a binding (HELD,
see sessions.port_hold_down), those that a new binding can get (FREE), and the most that had a binding at a time since the start
(PEAK); then the clients with most ports.`,
		Args: none,
	}
	c.Flags().IntVar(&clients, "clients", 5, "number of clients, up to 1000")
	a.watched(c, func(c *cobra.Command, _ []string) error {
		u, err := a.client().Pool4Usage(c.Context(), clients)
		if err != nil {
			return err
		}
		if a.format != formatTable {
			return printFields(a, u, nil)
		}
		columns := withRules(pool4RowColumns, u.Pool4, func(r control.Pool4Row) control.Pool4Rule { return r.Pool4Rule })
		if err := printAll(a, columns, u.Pool4); err != nil || len(u.Clients) == 0 {
			return err
		}
		fmt.Fprintln(a.out)
		return printAll(a, clientColumns, u.Clients)
	})
	return c
}

var pool4RowColumns = []column[control.Pool4Row]{
	{"ADDRESS", "address", func(r control.Pool4Row) string { return r.Address.String() }, nil},
	{"PROTO", "protocol", func(r control.Pool4Row) string { return r.Protocol }, nil},
	{"SIZE", "size", func(r control.Pool4Row) string { return strconv.Itoa(r.Size) }, nil},
	{"USED", "used", func(r control.Pool4Row) string { return share(r.Used, r.Size) }, nil},
	{"HELD", "held", func(r control.Pool4Row) string { return strconv.Itoa(r.Held) }, nil},
	{"FREE", "free", func(r control.Pool4Row) string { return strconv.Itoa(r.Free) }, nil},
	{"PEAK", "peak", func(r control.Pool4Row) string { return share(r.Peak, r.Size) }, nil},
}

var clientColumns = []column[control.ClientUse]{
	{"CLIENT", "client", func(u control.ClientUse) string { return u.Client.String() }, nil},
	{"MAPPED", "mapped", func(u control.ClientUse) string { return u.Mapped.String() }, nil},
	{"PORTS", "ports", func(u control.ClientUse) string { return strconv.Itoa(u.Ports) }, nil},
	{"SESSIONS", "sessions", func(u control.ClientUse) string { return strconv.Itoa(u.Sessions) }, nil},
}

// share returns a number and its percentage.
func share(n, of int) string { return fmt.Sprintf("%d (%d%%)", n, 100*n/max(of, 1)) }
