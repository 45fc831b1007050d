package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newReload(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "make nat64d read its configuration again; sessions stay",
		Long: `Make nat64d read its configuration file and conf.d again, like SIGHUP. nat64d applies all changes, or none if the
configuration has a mistake or changes a key that needs a restart. Sessions stay, except those that lose their prefix or
their pool4 address.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := a.client().Reload(c.Context())
			if err != nil {
				return err
			}
			a.warn(r.Warnings)
			if len(r.Changes) == 0 && a.format == formatTable {
				fmt.Fprintln(a.out, "nothing has changed")
			}
			return a.printSettings(r, r.Changes)
		},
	}
}
