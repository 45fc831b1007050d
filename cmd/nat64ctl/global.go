package main

import (
	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

// newGlobal returns config get and config set under Jool's names.
func newGlobal(a *app) *cobra.Command {
	c := group("global", "show and change the configuration by Jool's names")
	c.AddCommand(newGlobalDisplay(a), newConfigSet(a, "update", "  nat64ctl global update udp-timeout 0:10:00 --persist"))
	return c
}

func newGlobalDisplay(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "display",
		Short: "show the keys of Jool in its notation",
		Args:  none,
		RunE: func(c *cobra.Command, _ []string) error {
			keys, err := a.client().GetConfig(c.Context(), "")
			if err != nil {
				return err
			}
			var rows []control.JoolKey
			for _, k := range keys {
				rows = append(rows, k.Jool...)
			}
			return printAll(a, []column[control.JoolKey]{
				{"KEY", "name", func(k control.JoolKey) string { return k.Name }, nil},
				{"VALUE", "value", func(k control.JoolKey) string { return k.Value }, nil},
			}, rows)
		},
	}
}
