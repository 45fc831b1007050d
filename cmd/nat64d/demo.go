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

// demoCommand shows this very program at work in namespaces of its own.
func demoCommand() *cobra.Command {
	o := demo.Options{}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the gateway at work between an IPv6-only and an IPv4-only host",
		Long: `Builds an IPv6-only host, an IPv4-only host and a gateway between them in three network namespaces, runs the real
gateway there, and shows ping, an HTTP download by address and by name, and TCP throughput from the IPv6-only host, beside the figures of the
kernel's own IPv6 forwarding. Nothing outside the namespaces is touched, and nothing is left behind. Needs root.`,
		Example: `  nat64d demo
  nat64d demo --hold      # leave it running, to play with it`,
		Args:          noArguments,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.Flags().BoolVar(&o.Hold, "hold", false, "leave it running until Ctrl-C and print commands to play with it")
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
