package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newDoctor(a *app) *cobra.Command {
	var q control.DoctorRequest
	all := false
	c := &cobra.Command{
		Use:   "doctor",
		Short: "find what keeps packets from being translated, and the command that mends it",
		Long: `Examine nat64d and the machine around it: interfaces, addresses, routes and routers on both sides, MTUs, offloads, the guard,
ports that programs, connections or NAT rules of the machine use, other stations that answer for an address of pool4, forwarding
and Router Advertisements, IPsec policies, DNS64, and how full pool4 is. Each finding has its severity, the reason, and the command
that mends it, which the line below shows; words in capitals stand for values of your network.

With --probe, nat64d pings an IPv4 host through the translator as a client would, and with packets of the full size, too.

Exit codes: 0 no error (perhaps warnings), 1 a finding of severity error, 2 wrong use, 3 nat64d is not reachable.`,
		Example: `  nat64ctl doctor
  nat64ctl doctor --probe 198.51.100.7
  nat64ctl doctor --dns 2001:db8::53 -o json`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			found, err := a.client().Doctor(c.Context(), q)
			if err != nil {
				return err
			}
			failed := slices.ContainsFunc(found, func(f control.Finding) bool { return f.Severity == control.SeverityError })
			if !all {
				found = slices.DeleteFunc(found, func(f control.Finding) bool { return f.Severity == control.SeverityOK })
			}
			if err := printFindings(a, found); err != nil {
				return err
			}
			if failed {
				return errUnhealthy
			}
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&all, "all", false, "also show the checks that have found nothing")
	f.StringVar(&q.Probe, "probe", "", "IPv4 host to ping through the translator")
	f.StringVar(&q.DNS, "dns", "", "DNS64 server that the clients use, if it is not that of nat64d")
	return c
}

// printFindings prints findings. In a table the command is in a line of its own, because both are long.
func printFindings(a *app, found []control.Finding) error {
	if a.format != formatTable {
		return printAll(a, []column[control.Finding]{
			{"", "severity", func(f control.Finding) string { return f.Severity }, nil},
			{"", "check", func(f control.Finding) string { return f.Check }, nil},
			{"", "reason", func(f control.Finding) string { return f.Reason }, nil},
			{"", "command", func(f control.Finding) string { return f.Command }, nil},
		}, found)
	}
	if len(found) == 0 {
		fmt.Fprintln(a.out, "no problem found")
		return nil
	}
	var rows []control.Finding
	for _, f := range found {
		rows = append(rows, f)
		if f.Command != "" {
			rows = append(rows, control.Finding{Reason: "  " + f.Command})
		}
	}
	return printAll(a, []column[control.Finding]{
		{"SEVERITY", "", func(f control.Finding) string { return f.Severity }, nil},
		{"CHECK", "", func(f control.Finding) string { return f.Check }, nil},
		{"FINDING AND COMMAND", "", func(f control.Finding) string { return f.Reason }, nil},
	}, rows)
}
