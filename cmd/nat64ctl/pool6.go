package main

import (
	"github.com/spf13/cobra"

	"nat64d/control"
)

func newPool6(a *app) *cobra.Command {
	c := group("pool6", "NAT64 prefixes")
	c.AddCommand(&cobra.Command{
		Use:     "list",
		Aliases: []string{"display"},
		Short:   "show the NAT64 prefixes",
		Args:    none,
		RunE: func(c *cobra.Command, _ []string) error {
			entries, err := a.client().Pool6(c.Context())
			if err != nil {
				return err
			}
			return printAll(a, []column[control.Pool6Entry]{
				{"PREFIX", "prefix", func(e control.Pool6Entry) string { return e.Prefix.String() }, nil},
			}, entries)
		},
	})
	return c
}
