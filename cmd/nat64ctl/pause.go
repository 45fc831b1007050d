package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newPause(a *app) *cobra.Command {
	return newSwitch(a, "pause", "stop translating; bindings and sessions stay", "paused; nat64ctl resume continues translation", (*control.Client).Pause)
}

// newSwitch returns a command that sends a request without arguments and prints a confirmation.
func newSwitch(a *app, use, short, done string, do func(*control.Client, context.Context) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  none,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := do(a.client(), c.Context()); err != nil {
				return err
			}
			if a.format == formatTable {
				fmt.Fprintln(a.out, done)
			}
			return nil
		},
	}
}
