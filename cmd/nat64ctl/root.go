package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

// app has the global flags and the outputs of all commands.
type app struct {
	socket    string
	timeout   time.Duration
	format    format
	wide      bool // a table with more columns; see settle
	noHeaders bool
	out, err  io.Writer
	started   bool // the command line is valid: later errors are not usage errors
}

// client returns a client for the control socket.
func (a *app) client() *control.Client {
	return &control.Client{Socket: a.socket, Timeout: a.timeout}
}

const rootHelp = `nat64ctl shows and changes a running nat64d.

Changes hold until nat64d stops; what is to last belongs into its configuration (config set --persist writes it there).

Exit codes:
  0  done
  1  refused, by nat64d or because an address, a range or a filter makes no sense
  2  wrong use: an unknown command or flag, a missing argument
  3  nat64d is not reachable, or stopped before its answer was complete

Environment:
  NAT64D_SOCKET  the control socket, unless --socket names it
  NO_COLOR       no colours, also on a terminal`

func newRoot(a *app) *cobra.Command {
	root := group("nat64ctl", "show and change a running nat64d")
	root.Long = rootHelp
	root.Example = `  nat64ctl status
  nat64ctl pool4 add 10.0.2.15 7000-8000
  nat64ctl session list --client 2001:db8::/64 --tcp
  nat64ctl stats -o json`
	root.Version = ownVersion().Version
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetVersionTemplate("nat64ctl {{.Version}}\n")
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)

	f := root.PersistentFlags()
	f.StringVar(&a.socket, "socket", cmp.Or(os.Getenv("NAT64D_SOCKET"), control.DefaultSocket), "control socket of nat64d")
	f.DurationVar(&a.timeout, "timeout", 10*time.Second, "how long nat64d may take to answer, or to begin a listing")
	f.VarP(&a.format, "output", "o", "table, wide, json, yaml or csv")
	f.BoolVar(&a.noHeaders, "no-headers", false, "leave out the titles of tables and csv")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.timeout <= 0 {
			return fmt.Errorf("--timeout %v must be more than 0", a.timeout)
		}
		a.settle()
		a.started = true
		return nil
	}
	root.AddCommand(
		newStatus(a), newHealth(a), newPool4(a), newPool6(a), newBIB(a), newSession(a), newStats(a), newTop(a), newAddr(a), newDNS64(a),
		newConfig(a), newExplain(a), newTrace(a), newCapture(a), newGlobal(a), newReload(a), newPause(a), newResume(a), newVersion(a),
		newDoctor(a), newSupportBundle(a),
	)
	root.InitDefaultCompletionCmd() // early, so that asGroup applies to it
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			asGroup(c)
		}
	}
	return root
}

// group returns a command that only has subcommands.
func group(use, short string) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	asGroup(c)
	return c
}

// asGroup makes a group without a subcommand a usage error that lists the subcommands. Cobra would print its help and
// succeed.
func asGroup(c *cobra.Command) {
	c.SuggestionsMinimumDistance = 2
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		err := fmt.Errorf("unknown command %q", args[0])
		if s := c.SuggestionsFor(args[0]); len(s) > 0 {
			return fmt.Errorf("%w; did you mean %s?", err, strings.Join(s, " or "))
		}
		return err
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !c.HasParent() {
			return c.Help()
		}
		var names []string
		for _, sub := range c.Commands() {
			names = append(names, sub.Name())
		}
		return usageError{fmt.Errorf("%s needs a command: %s", c.Name(), strings.Join(names, ", ")), c.CommandPath()}
	}
}

// arguments returns a check of the number of arguments. Its error names missing ones.
func arguments(required, optional []string) cobra.PositionalArgs {
	all := slices.Concat(required, optional)
	return func(_ *cobra.Command, args []string) error {
		switch n := len(args); {
		case n < len(required):
			return missing(required[n:])
		case n > len(all):
			return fmt.Errorf("%q is one argument too many", args[len(all)])
		}
		return nil
	}
}

// missing returns the error for arguments that are not there.
func missing(names []string) error {
	last := len(names) - 1
	if last == 0 {
		return fmt.Errorf("%s is missing", names[0])
	}
	return fmt.Errorf("%s and %s are missing", strings.Join(names[:last], ", "), names[last])
}

// none is the check for a command without arguments.
var none = arguments(nil, nil)
