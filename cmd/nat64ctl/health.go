package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// errUnhealthy sets the exit code. The command has already printed the reasons.
var errUnhealthy = errors.New("not ready")

// health is the result of a health check.
type health struct {
	Ready   bool     `json:"ready"`
	Paused  bool     `json:"paused"`
	Reasons []string `json:"reasons,omitempty"` // reasons for not being ready
}

// String returns the result in one line.
func (h health) String() string {
	switch {
	case h.Paused:
		return "paused: nat64ctl resume continues"
	case !h.Ready:
		return "not ready: " + strings.ReplaceAll(strings.Join(h.Reasons, "; "), "\n", "; ") // joined errors have lines
	}
	return "ready"
}

func newHealth(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "report in one line whether packets are translated, for scripts and probes",
		Long: `Report in one line whether nat64d translates packets, or why not.

Exit codes: 0 ready, 1 not ready or paused, 3 not reachable.`,
		Example: "  nat64ctl health || systemctl stop keepalived",
		Args:    none,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.client().Status(c.Context())
			if err != nil {
				return err
			}
			h := health{Ready: s.Ready && !s.Paused, Paused: s.Paused, Reasons: s.NotReady}
			if a.format == formatTable {
				fmt.Fprintln(a.out, h)
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
