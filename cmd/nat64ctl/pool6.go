package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newPool6(a *app) *cobra.Command {
	c := group("pool6", "NAT64 prefixes")
	c.AddCommand(
		newPool6Change(a, "add", "add a prefix", (*control.Client).AddPool6),
		newPool6Change(a, "remove", "remove a prefix, and end the sessions that use it", (*control.Client).RemovePool6),
		newPool6List(a),
	)
	return c
}

func newPool6List(a *app) *cobra.Command {
	return &cobra.Command{
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
	}
}

// newPool6Change returns command add or remove.
func newPool6Change(a *app, verb, short string, do func(*control.Client, context.Context, control.Pool6Change) (control.Pool6Result, error)) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " PREFIX",
		Short:   short,
		Long:    "PREFIX is an IPv6 prefix of length 32, 40, 48, 56, 64 or 96. If several prefixes contain an address, the longest match wins.",
		Example: "  nat64ctl pool6 " + verb + " 2001:db8:64::/96",
		Args:    arguments([]string{"PREFIX"}, nil),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := do(a.client(), c.Context(), control.Pool6Change{Prefix: args[0]})
			if err != nil {
				return err
			}
			a.warn(r.Warnings)
			if a.format != formatTable {
				return printFields(a, r, nil)
			}
			fmt.Fprintf(a.out, "%s %v\n", past(verb), r.Prefix)
			if r.Sessions > 0 {
				fmt.Fprintf(a.out, "ended %s\n", count(r.Sessions, "session"))
			}
			return nil
		},
	}
}
