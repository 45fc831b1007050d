//go:build linux

package main

import (
	"github.com/spf13/cobra"

	"nat64d/daemon"
)

// dns64Command returns the command that runs the forwarder without the gateway.
func (a *app) dns64Command() *cobra.Command {
	return &cobra.Command{
		Use:   "dns64",
		Short: "Run DNS64 alone, without the privileges for packets",
		Long: `Run only the DNS64 forwarder of the configuration: the process translates no packets, and gives up
the privileges for that. Next to a gateway with dns64.enabled: false it isolates names from packets; it then needs its
own control socket, for nat64ctl --socket.`,
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
