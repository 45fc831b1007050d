//go:build linux

// Command nat64d is a stateful NAT64 gateway (RFC 6146) in user space: it translates between an IPv6-only and an IPv4
// network, using two network interfaces. nat64ctl administers it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"nat64d/config"
	"nat64d/daemon"
)

func main() {
	signal.Ignore(syscall.SIGPIPE) // SIGPIPE from a dead reader of standard error must not end the gateway
	stderr := daemon.NewLogQueue(os.Stderr)
	log.SetOutput(stderr) // nothing else may write to standard error, and wait for its reader
	code := run(stderr)
	stderr.Close(time.Second) // its reader may be stuck
	os.Exit(code)
}

// run executes the command line and returns the exit code.
func run(stderr *daemon.LogQueue) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := rootCommand(stderr).ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "nat64d:", err)
	if isUsage(err) {
		return 2
	}
	return 1
}

// usageError is an error of the command line: exit code 2.
type usageError struct{ error }

// isUsage reports whether all errors are in the command line; flags alone can form a configuration.
func isUsage(err error) bool {
	var usage usageError
	var problems config.Problems
	fromFile := func(p config.Problem) bool { return !p.OnCommandLine() }
	return errors.As(err, &usage) || errors.As(err, &problems) && !slices.ContainsFunc(problems, fromFile)
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError{fmt.Errorf("unknown argument %q: nat64d takes flags only; see nat64d --help", args[0])}
}

// app contains the global flags and the outputs for errors and the log.
type app struct {
	file      string
	overrides config.Overrides
	fresh     bool
	stderr    *daemon.LogQueue
}

// options returns the daemon's options from the command line.
func (a *app) options() daemon.Options {
	return daemon.Options{File: a.file, Overrides: a.overrides, Log: a.stderr, Version: buildVersion(), Fresh: a.fresh, Confine: true}
}

func rootCommand(stderr *daemon.LogQueue) *cobra.Command {
	a := &app{stderr: stderr}
	c := &cobra.Command{
		Use:   "nat64d",
		Short: "Stateful NAT64 gateway (RFC 6146) in user space",
		Long: `nat64d lets IPv6-only hosts reach IPv4-only servers. It runs on a machine with an interface in each network and
translates between them in user space. A file, environment variables and flags configure it. A flag takes precedence over a
variable, and a variable over the file. NAT64D_INTERFACES_V6_NAME sets interfaces.v6.name, and so on for each key.

Signals: SIGHUP reads the configuration again, SIGUSR1 writes a summary of the tables to the log, SIGTERM and SIGINT stop.

Exit codes: 0 stopped by a signal, 1 cannot start or continue, 2 the command line is wrong, 3 ended at once after a
panic that may have left a table half changed.`,
		Example: `  nat64d -c /etc/nat64d/nat64d.yaml
  nat64d --v6 eth0 --v4 eth1 --pool6 64:ff9b::/96 --pool4 10.0.2.15:7000-8000
  nat64d check -c /etc/nat64d/nat64d.yaml
  nat64d dns64 -c /etc/nat64d/nat64d.yaml
  nat64d demo`,
		Args:              noArguments,
		SilenceUsage:      true,
		SilenceErrors:     true,
		Version:           buildVersion().Version,
		RunE:              func(c *cobra.Command, _ []string) error { return serve(c.Context(), a.options(), daemon.New) },
		PersistentPreRunE: func(*cobra.Command, []string) error { return daemon.CheckMemory() },
	}
	c.SetErr(stderr)
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	flags := c.PersistentFlags()
	flags.StringVarP(&a.file, "config", "c", "", "configuration file (YAML)")
	config.AddFlags(flags)
	a.overrides.Flags = flags
	c.Flags().BoolVar(&a.fresh, "fresh", false, "start without the sessions and the unsaved changes of before")
	c.AddCommand(a.checkCommand(), a.dns64Command(), demoCommand(), versionCommand())
	return c
}
