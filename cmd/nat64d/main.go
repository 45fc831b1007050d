// Command nat64d is a stateful NAT64 gateway (RFC 6146) in user space: it translates between an IPv6-only and an IPv4
// network by way of two network interfaces. nat64ctl administers it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"nat64d/config"
)

// flushWithin is how long the end of the process waits for the reader of standard error.
const flushWithin = time.Second

func main() {
	signal.Ignore(syscall.SIGPIPE) // a dead reader of standard error must not end what carries packets
	stderr := newLogQueue(os.Stderr)
	code := run(stderr)
	stderr.Close(flushWithin)
	os.Exit(code)
}

// run does what the command line asks for, and returns the exit code.
func run(stderr *logQueue) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := rootCommand(stderr).ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "nat64d:", err)
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

// usageError is a mistake in the command line itself: exit code 2.
type usageError struct{ error }

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError{fmt.Errorf("unknown argument %q: nat64d takes flags only; see nat64d --help", args[0])}
}

// asUsage makes the problems of a configuration a mistake in the command line if that is where all of them are.
func asUsage(err error) error {
	var ps config.Problems
	if !errors.As(err, &ps) || slices.ContainsFunc(ps, func(p config.Problem) bool { return p.File != "command line" && p.File != "" }) {
		return err
	}
	return usageError{err}
}

func rootCommand(stderr *logQueue) *cobra.Command {
	var file string
	var o config.Overrides
	c := &cobra.Command{
		Use:   "nat64d",
		Short: "Stateful NAT64 gateway (RFC 6146) in user space",
		Long: `nat64d lets IPv6-only hosts reach IPv4-only servers. It runs on a machine with an interface in each network and
translates between them in user space. It is configured by a file, by flags, or by both: flags win.

Exit codes: 0 stopped in order, 1 it could not start or go on, 2 the command line is wrong.`,
		Example: `  nat64d -c /etc/nat64d/nat64d.yaml
  nat64d --v6 eth0 --v4 eth1 --pool6 64:ff9b::/96 --pool4 10.0.2.15:7000-8000
  nat64d check -c /etc/nat64d/nat64d.yaml
  nat64d dns64 -c /etc/nat64d/nat64d.yaml
  nat64d demo`,
		Args:          noArguments,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       buildVersion().Version,
		RunE: func(c *cobra.Command, _ []string) error {
			return asUsage(withHint(serve(c.Context(), file, o, stderr)))
		},
		PersistentPreRunE: func(*cobra.Command, []string) error { return enough() },
	}
	c.SetErr(stderr)
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	flags := c.PersistentFlags()
	flags.StringVarP(&file, "config", "c", "", "configuration file (YAML)")
	flags.StringVar(&o.V6, "v6", "", "interface in the IPv6-only network")
	flags.StringVar(&o.V4, "v4", "", "interface in the IPv4 network; may be the same")
	flags.StringArrayVar(&o.Pool6, "pool6", nil, "NAT64 prefix (default 64:ff9b::/96)")
	flags.StringArrayVar(&o.Pool4, "pool4", nil, "IPv4 address and ports to translate to, such as 10.0.2.15:7000-8000; may be repeated")
	flags.StringVar(&o.Socket, "socket", "", "control socket (default /run/nat64d/nat64d.sock)")
	flags.StringVar(&o.Engine, "engine", "", "how packets are moved: auto, ring, mmsg or simple")
	flags.StringVar(&o.Offloads, "offloads", "", "who sets the offloads of the interfaces: leave or manage")
	flags.BoolVar(&o.Force, "force", false, "take ports of pool4 even if the host needs them (host.force)")
	flags.BoolVar(&o.ShareInterfaces, "share-interfaces", false, "start even if another nat64d carries packets on the same interfaces (host.share_interfaces)")
	flags.StringVar(&o.LogLevel, "log-level", "", "debug, info, warn or error")
	c.AddCommand(checkCommand(&file, &o), dns64Command(&file, &o, stderr), demoCommand(), versionCommand())
	return c
}

// checkCommand reads a configuration as the daemon would and says what is wrong with it.
func checkCommand(file *string, o *config.Overrides) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check a configuration without using it",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := config.Load(*file, *o); err != nil {
				return asUsage(err)
			}
			fmt.Fprintln(c.OutOrStdout(), "the configuration is correct")
			return nil
		},
	}
}
