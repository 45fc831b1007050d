//go:build linux

package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"nat64d/demo"
)

// demoCommand returns the command that demonstrates this program in network namespaces.
func demoCommand() *cobra.Command {
	o := demo.Options{}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the gateway at work between an IPv6-only and an IPv4-only host",
		Long: `Builds an IPv6-only host, an IPv4-only host and a gateway between them in three network namespaces, runs the real
gateway there, and shows ping, an HTTP download by address and by name, and TCP throughput from the IPv6-only host, compared with that of the
kernel's own IPv6 forwarding. It changes nothing outside of the namespaces, and removes them afterwards. Needs root.`,
		Example: `  nat64d demo
  nat64d demo --hold      # keep it running`,
		Args:          noArguments,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.Flags().BoolVar(&o.Hold, "hold", false, "keep it running until Ctrl-C and print commands to try")
	seconds := c.Flags().Int("seconds", 3, "length of each measurement of throughput, 1 to 60")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if *seconds < 1 || *seconds > 60 {
			return usageError{fmt.Errorf("--seconds %d: must be from 1 to 60", *seconds)}
		}
		o.Length = time.Duration(*seconds) * time.Second
		if o.Program, err = os.Executable(); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		return demo.Run(ctx, o, os.Stdout)
	}
	return c
}
