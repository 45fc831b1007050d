//go:build linux

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"nat64d/config"
)

// checkCommand returns the command that validates a configuration.
func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check a configuration without using it",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			loaded, err := config.Load(a.file, a.overrides)
			if err != nil {
				return err
			}
			for _, w := range loaded.Warnings {
				fmt.Fprintln(c.ErrOrStderr(), "warning: "+w)
			}
			fmt.Fprintln(c.OutOrStdout(), "the configuration is correct")
			return nil
		},
	}
}
