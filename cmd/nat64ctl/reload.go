package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newReload(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "have nat64d read its configuration file again; sessions stay",
		Long: `Have nat64d read its configuration file and conf.d again, as SIGHUP does. All changes are made, or, when the
configuration has a mistake or changes what needs a restart, none. Sessions stay, but for those that lose their prefix
or their pool4 address.`,
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
