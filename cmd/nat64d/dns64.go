//go:build linux

package main

import (
	"github.com/spf13/cobra"

	"nat64d/daemon"
)

// dns64Command runs the forwarder without the gateway.
func (a *app) dns64Command() *cobra.Command {
	return &cobra.Command{
		Use:   "dns64",
		Short: "Run DNS64 alone, without the privileges for packets",
		Long: `Run the DNS64 forwarder of the configuration, and nothing else of it: no packet is translated here, and the process has
not the privileges that this would take. Beside a gateway with dns64.enabled: false it keeps names and packets apart; it needs a
control socket of its own then, which nat64ctl --socket names.`,
		Example: "  nat64d dns64 -c /etc/nat64d/nat64d.yaml --socket /run/nat64d/dns64.sock",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := daemon.DropPrivileges(); err != nil {
				return err
			}
			return serve(c.Context(), a.options(), daemon.NewDNS64)
		},
	}
}
