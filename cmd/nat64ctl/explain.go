package main

import (
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newExplain(a *app) *cobra.Command {
	var flags explainFlags
	c := &cobra.Command{
		Use:   "explain PROTOCOL SOURCE [PORT] DESTINATION [PORT]",
		Short: "show what would become of a packet, step by step, without sending one",
		Long: `Show what nat64d would do with a packet now, step by step, each with the section of the RFC that demands it. The packet takes
the way of a real one through the configuration, the tables and the routes, and changes nothing there. A packet that would make a
binding is shown with the port that it would get.

The source is an IPv6 client, or an IPv4 host for the way back. An IPv4 destination of a client stands for its address in the first
prefix of pool6. Without a source port nat64d chooses one, and shows it. TCP is a SYN, ICMP an echo request, whose Identifier
stands in the place of a port.`,
		Example: `  nat64ctl explain tcp 2001:db8:1::2 192.0.2.2 443
  nat64ctl explain udp 2001:db8:1::2 5000 64:ff9b::192.0.2.2 53 --size 1500
  nat64ctl explain tcp 192.0.2.2 443 192.0.2.1 7042 --flags ack
  nat64ctl explain icmp 2001:db8:1::2 192.0.2.2 --hop-limit 1`,
		Args: explainArguments,
		RunE: func(c *cobra.Command, args []string) error {
			x, err := a.client().Explain(c.Context(), flags.query(c, args))
			if err != nil {
				return err
			}
			switch a.format {
			case formatJSON:
				return printObject(a.out, x)
			case formatCSV:
				return printAll(a, stepColumns, x.Steps)
			}
			return printExplanation(a, &x)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return []string{"tcp", "udp", "icmp"}, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	flags.add(c)
	return c
}

// explainFlags describe the packet besides its addresses and ports.
type explainFlags struct {
	flags      string
	size, hops int
	df, reply  bool
}

func (f *explainFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.flags, "flags", "syn", "kind of the TCP segment: syn, syn-ack, ack, fin or rst")
	c.Flags().IntVar(&f.size, "size", 0, "length of the IP packet in bytes; 0: as short as possible")
	c.Flags().IntVar(&f.hops, "hop-limit", 64, "hop limit or TTL")
	c.Flags().BoolVar(&f.df, "df", false, "Don't Fragment, of a packet from IPv4")
	c.Flags().BoolVar(&f.reply, "reply", false, "an ICMP echo reply instead of a request")
	kinds := cobra.FixedCompletions([]string{"syn", "syn-ack", "ack", "fin", "rst"}, cobra.ShellCompDirectiveNoFileComp)
	_ = c.RegisterFlagCompletionFunc("flags", kinds) // the flag exists
}

// explainArguments checks the number of arguments.
func explainArguments(_ *cobra.Command, args []string) error {
	names, most := []string{"PROTOCOL", "SOURCE", "DESTINATION"}, 4
	if hasSourcePort(args) {
		names, most = []string{"PROTOCOL", "SOURCE", "PORT", "DESTINATION"}, 5
	}
	switch {
	case len(args) > 0 && isAddress(args[0]):
		return fmt.Errorf("PROTOCOL is missing before %s: use tcp, udp or icmp", args[0])
	case len(args) < len(names):
		return missing(names[len(args):])
	case len(args) > most:
		return fmt.Errorf("%q is one argument too many", args[most])
	}
	return nil
}

// hasSourcePort reports whether the argument behind the source is its port: it is a number, or no address among so many arguments
// that it cannot be the destination.
func hasSourcePort(args []string) bool {
	return len(args) > 2 && isNumber(args[2]) || len(args) > 4 && !isAddress(args[2])
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// query returns the question that the command line asks.
func (f *explainFlags) query(c *cobra.Command, args []string) url.Values {
	v := url.Values{"protocol": {strings.ToLower(args[0])}, "source": {args[1]}}
	rest := args[2:]
	if hasSourcePort(args) {
		v.Set("source_port", rest[0])
		rest = rest[1:]
	}
	v.Set("destination", rest[0])
	if len(rest) > 1 {
		v.Set("destination_port", rest[1])
	}
	for name, flag := range map[string]string{"flags": "flags", "size": "size", "hop_limit": "hop-limit", "df": "df", "reply": "reply"} {
		if c.Flags().Changed(flag) {
			v.Set(name, c.Flags().Lookup(flag).Value.String())
		}
	}
	return v
}

// stepColumns are the columns of the steps.
var stepColumns = []column[control.Step]{
	{"STEP", "step", func(s control.Step) string { return s.Step }, nil},
	{"WHAT", "text", func(s control.Step) string { return s.Text }, nil},
	{"RFC", "rfc", func(s control.Step) string { return s.RFC }, nil},
}

// printExplanation prints a line for each step, and what becomes of the packet as the last one.
func printExplanation(a *app, x *control.Explanation) error {
	var b strings.Builder
	for _, text := range x.Assumed {
		writeStep(&b, control.Step{Step: "assumed", Text: text})
	}
	last := len(x.Steps) - 1
	for _, s := range x.Steps[:last] {
		writeStep(&b, s)
	}
	for i := range x.Ends {
		s := &x.Ends[i]
		writeStep(&b, control.Step{Step: "ends", Text: fmt.Sprintf("session %s %v → %v → %v, to make room", s.Protocol, s.Client, s.Mapped, s.Peer)})
	}
	fmt.Fprintln(&b, x.Steps[last].Text)
	_, err := io.WriteString(a.out, b.String())
	return err
}
