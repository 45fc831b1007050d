//go:build linux

package main

import (
	"context"
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
  nat64d demo node        # on a node with pods
  nat64d demo --hold      # keep it running`,
		Args: noArguments,
	}
	c.PersistentFlags().BoolVar(&o.Hold, "hold", false, "keep it running until Ctrl-C and print commands to try")
	seconds := c.PersistentFlags().Float64("seconds", 3, "length of each measurement of throughput, 0.1 to 60")
	node := &cobra.Command{
		Use:   "node",
		Short: "Show the gateway at work on a node: for its own traffic, its pods and its LAN",
		Long: `Builds a node with two pods behind a bridge, a host on a LAN behind the node, and an IPv4-only host in network
namespaces, runs nat64d --v6 host --v4 host on the node, and shows ping and curl by name from the node itself, a pod and
the LAN; TCP throughput, compared with that of the kernel alone; a connection from pod to pod by an IPv4 address; that a
download survives kill -9 and a start of nat64d; and that nothing of nat64d is left on the node after a stop. It changes
nothing outside of the namespaces, and removes them afterwards. Needs root.`,
		Args: noArguments,
	}
	run := func(node bool) func(*cobra.Command, []string) error {
		return func(c *cobra.Command, _ []string) error {
			o.Node = node
			return runDemo(c.Context(), o, *seconds)
		}
	}
	c.RunE, node.RunE = run(false), run(true)
	for _, d := range []*cobra.Command{c, node} {
		d.SilenceUsage, d.SilenceErrors = true, true
	}
	c.AddCommand(node)
	return c
}

func runDemo(ctx context.Context, o demo.Options, seconds float64) (err error) {
	if !(seconds >= 0.1 && seconds <= 60) { // also not a number
		return usageError{fmt.Errorf("--seconds %g: must be from 0.1 to 60", seconds)}
	}
	o.Length = time.Duration(seconds * float64(time.Second))
	if o.Program, err = os.Executable(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return demo.Run(ctx, o, os.Stdout)
}
