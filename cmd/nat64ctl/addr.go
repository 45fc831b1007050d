package main

import (
	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newAddr(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "addr ADDRESS",
		Short: "convert between IPv4 addresses and IPv6 addresses of pool6",
		Example: `  nat64ctl addr 192.0.2.1
  nat64ctl addr 64:ff9b::c000:201`,
		Args: arguments(address, nil),
		RunE: func(c *cobra.Command, args []string) error {
			pairs, err := a.client().Address(c.Context(), args[0])
			if err != nil {
				return err
			}
			return printAll(a, []column[control.AddressPair]{
				{"V4", "v4", func(p control.AddressPair) string { return p.V4.String() }, nil},
				{"V6", "v6", func(p control.AddressPair) string { return p.V6.String() }, nil},
				{"PREFIX", "prefix", func(p control.AddressPair) string { return p.Prefix.String() }, nil},
			}, pairs)
		},
	}
}
