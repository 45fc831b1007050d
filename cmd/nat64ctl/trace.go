package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"nat64d/drop"
	"nat64d/ops/control"
)

// traceFlags select packets.
type traceFlags struct {
	protocolFlags
	client, peer string
	ports        []string
	reasons      []string
	drops        bool
	limit        int
}

func (f *traceFlags) add(c *cobra.Command) {
	f.protocolFlags.add(c)
	c.Flags().StringVar(&f.client, "client", "", "only of this IPv6 address or prefix")
	c.Flags().StringVar(&f.peer, "peer", "", "only with this IPv4 address or prefix")
	c.Flags().StringSliceVar(&f.ports, "port", nil, "only with this port or Identifier, on either side")
	c.Flags().StringSliceVar(&f.reasons, "reason", nil, "only packets dropped, or left to the host, for this reason")
	c.Flags().BoolVar(&f.drops, "drops", false, "only packets that are dropped")
	c.Flags().IntVar(&f.limit, "limit", 0, "end after so many packets; 0: with Ctrl-C")
	_ = c.RegisterFlagCompletionFunc("reason", cobra.FixedCompletions(reasons(), cobra.ShellCompDirectiveNoFileComp)) // the flag exists
}

// reasons returns the drop reasons with their meaning, for the completion of the shell.
func reasons() (list []string) {
	for r := drop.None + 1; r < drop.Count; r++ {
		list = append(list, r.String()+"\t"+r.Help())
	}
	return list
}

// filter returns the filter for the flags.
func (f *traceFlags) filter(c *cobra.Command) (filter control.TraceFilter, err error) {
	if f.limit < 0 {
		return filter, usageError{fmt.Errorf("--limit %d must not be negative", f.limit), c.CommandPath()}
	}
	filter.Protocols, filter.Limit, filter.Reasons, filter.Drops = f.names(), f.limit, f.reasons, f.drops
	for _, s := range f.ports {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return filter, usageError{fmt.Errorf("--port %q must be a number from 0 to 65535", s), c.CommandPath()}
		}
		filter.Ports = append(filter.Ports, uint16(n))
	}
	if f.client != "" {
		if filter.Client, err = control.ParseClient(f.client); err != nil {
			return filter, err
		}
	}
	if f.peer != "" {
		filter.Peer, err = control.ParsePeer(f.peer)
	}
	return filter, err
}

func newTrace(a *app) *cobra.Command {
	var flags traceFlags
	c := &cobra.Command{
		Use:   "trace",
		Short: "show what becomes of packets as they pass",
		Long: `Show what becomes of packets as they pass: a line for each step, with the section of the RFC, until Ctrl-C or --limit. Packets that
nat64d leaves to the host appear if a flag names an address, a port or the reason. json is one object for each packet and line; a
line {"missed": N} stands for N packets that are left out, because they came faster than they could be shown.`,
		Example: `  nat64ctl trace --client 2001:db8::8 --tcp --port 443
  nat64ctl trace --drops
  nat64ctl trace --reason pool_exhausted --limit 10 -o json`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := flags.filter(c)
			if err != nil {
				return err
			}
			p := newTracePrinter(a)
			err = a.client().Trace(c.Context(), f, p.packet, p.missed)
			if errors.Is(err, context.Canceled) {
				return nil // Ctrl-C is how a trace ends
			}
			return err
		},
	}
	flags.add(c)
	return c
}

// tracePrinter prints packets one by one, each with one write.
type tracePrinter struct {
	packet func(control.Traced) error
	missed func(uint64) error
}

func newTracePrinter(a *app) tracePrinter {
	warn := func(n uint64) error {
		_, err := fmt.Fprintf(a.err, "nat64ctl: %s left out: they come faster than they can be shown; use a narrower filter\n", count(n, "packet"))
		return err
	}
	if yaml, ok := a.out.(yamlOutput); ok {
		p := &yamlPrinter[control.Traced]{out: yaml}
		return tracePrinter{func(t control.Traced) error {
			if err := p.add(t); err != nil {
				return err
			}
			return p.flush()
		}, warn}
	}
	switch a.format {
	case formatJSON:
		enc := json.NewEncoder(a.out)
		return tracePrinter{
			func(t control.Traced) error { return enc.Encode(t) },
			func(n uint64) error { return enc.Encode(map[string]uint64{"missed": n}) },
		}
	case formatCSV:
		p := &csvPrinter[control.Traced]{out: csv.NewWriter(a.out), columns: traceColumns}
		if !a.noHeaders {
			p.head()
		}
		return tracePrinter{func(t control.Traced) error {
			if err := p.add(t); err != nil {
				return err
			}
			return p.end()
		}, warn}
	default:
		return tracePrinter{func(t control.Traced) error { return printTraced(a.out, &t) }, warn}
	}
}

// printTraced prints a packet: a line with the packet as it arrived, and a line for each step.
func printTraced(w io.Writer, t *control.Traced) error {
	var b strings.Builder
	for i, s := range t.Steps {
		if i == 0 {
			fmt.Fprintf(&b, "%s %s\n", t.Time.Local().Format("15:04:05.000000"), s.Text)
			continue
		}
		writeStep(&b, s)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeStep writes a step in one line.
func writeStep(b *strings.Builder, s control.Step) {
	fmt.Fprintf(b, "  %-10s  %s", s.Step, s.Text)
	if s.RFC != "" {
		fmt.Fprintf(b, "  [%s]", s.RFC)
	}
	b.WriteByte('\n')
}

var traceColumns = []column[control.Traced]{
	{"", "time", func(t control.Traced) string { return t.Time.Format("2006-01-02T15:04:05.000000Z07:00") }, nil},
	{"", "verdict", func(t control.Traced) string { return t.Verdict.Verdict }, nil},
	{"", "reason", func(t control.Traced) string { return t.Reason }, nil},
	{"", "direction", func(t control.Traced) string { return t.Direction }, nil},
	{"", "protocol", func(t control.Traced) string { return t.Protocol }, nil},
	{"", "client", func(t control.Traced) string { return optional(t.Client) }, nil},
	{"", "client_port", func(t control.Traced) string { return strconv.Itoa(int(t.ClientPort)) }, nil},
	{"", "mapped", func(t control.Traced) string { return optional(t.Mapped) }, nil},
	{"", "mapped_port", func(t control.Traced) string { return strconv.Itoa(int(t.MappedPort)) }, nil},
	{"", "peer", func(t control.Traced) string { return optional(t.Peer) }, nil},
	{"", "peer_port", func(t control.Traced) string { return strconv.Itoa(int(t.PeerPort)) }, nil},
	{"", "session", func(t control.Traced) string { return t.Session }, nil},
	{"", "state", func(t control.Traced) string { return t.State }, nil},
	{"", "length", length, nil},
	{"", "hint", func(t control.Traced) string { return t.Hint }, nil},
}

// length returns the length of a packet as it arrived, and no text if it is not known.
func length(t control.Traced) string {
	if t.Received.Length == 0 {
		return ""
	}
	return strconv.Itoa(t.Received.Length)
}

// optional returns an address as text, and no text for the zero address.
func optional(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
