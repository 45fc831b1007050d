//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"nat64d/config"
	"nat64d/daemon"
	"nat64d/ops/control"
)

// errHost is the error of a machine that the checks have found errors on.
var errHost = errors.New("the machine is not ready for this configuration")

// checkCommand returns the command that validates a configuration.
func (a *app) checkCommand() *cobra.Command {
	host := false
	c := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration without using it",
		Long: `Check a configuration without using it. With --host, also check whether this machine is ready for it: interfaces,
addresses, routes and routers, MTUs, offloads, ports that programs or NAT rules of the machine use, IPsec policies, and other stations
with an address of pool4. It changes nothing. When nat64d runs, nat64ctl doctor checks the same and more.

Exit codes: 0 correct, 1 an error was found.`,
		Example: `  nat64d check -c /etc/nat64d/nat64d.yaml
  nat64d check --host -c /etc/nat64d/nat64d.yaml`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			loaded, err := config.Load(a.file, a.overrides)
			if err != nil {
				return err
			}
			for _, w := range loaded.Warnings {
				fmt.Fprintln(c.ErrOrStderr(), "warning: "+w)
			}
			fmt.Fprintln(c.OutOrStdout(), "the configuration is correct")
			if !host {
				return nil
			}
			found, err := daemon.CheckHost(loaded, a.file, a.stderr)
			if err != nil {
				return err
			}
			return printFindings(c.OutOrStdout(), found)
		},
	}
	c.Flags().BoolVar(&host, "host", false, "also check whether this machine is ready for it")
	return c
}

// printFindings prints the findings that are not ok, each with the command that mends it in the next line.
func printFindings(w io.Writer, found []control.Finding) error {
	bad, some := false, false
	for _, f := range found {
		if f.Severity == control.SeverityOK {
			continue
		}
		some, bad = true, bad || f.Severity == control.SeverityError
		fmt.Fprintf(w, "%s: %s: %s\n", f.Severity, f.Check, f.Reason)
		if f.Command != "" {
			fmt.Fprintf(w, "    %s\n", f.Command)
		}
	}
	switch {
	case bad:
		return errHost
	case !some:
		fmt.Fprintln(w, "the machine is ready for it")
	}
	return nil
}
