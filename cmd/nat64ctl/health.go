package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

// errUnhealthy sets the exit code. The command has already printed the reasons.
var errUnhealthy = errors.New("not ready")

// healthLine returns the result in one line.
func healthLine(h *control.Health) string {
	switch {
	case h.Paused:
		return "paused: nat64ctl resume continues"
	case !h.Ready:
		return "not ready: " + strings.ReplaceAll(strings.Join(h.Reasons, "; "), "\n", "; ") // joined errors have lines
	}
	return "ready"
}

// printHealth prints the result and a line for each check.
func printHealth(a *app, h *control.Health) {
	fmt.Fprintln(a.out, healthLine(h))
	for _, c := range h.Checks {
		if c.OK {
			fmt.Fprintf(a.out, "ok    %s\n", c.Name)
		} else {
			fmt.Fprintf(a.out, "FAIL  %s: %s\n", c.Name, strings.ReplaceAll(c.Why, "\n", "; "))
		}
	}
}

func newHealth(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "report whether packets are translated, for scripts and probes",
		Long: `Report whether nat64d translates packets, or why not, and the result of each check: interfaces, pool4, guard, workers, the
self-test at the start.

Exit codes: 0 ready, 1 not ready or paused, 3 not reachable.`,
		Example: "  nat64ctl health || systemctl stop keepalived",
		Args:    none,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.client().Status(c.Context())
			if err != nil {
				return err
			}
			h := s.Health()
			if a.format == formatTable {
				printHealth(a, &h)
			} else if err := printFields(a, h, nil); err != nil {
				return err
			}
			if !h.Ready {
				return errUnhealthy
			}
			return nil
		},
	}
}
