package main

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newSessionFollow(a *app) *cobra.Command {
	var flags filterFlags
	c := &cobra.Command{
		Use:   "follow",
		Short: "show sessions as they begin, change their state and end",
		Long: `Show a line for each session that begins (made), changes its TCP state (changed) or ends (ended, with the cause), from now on, until
you interrupt it or --limit is reached. Events wait for nat64ctl in a bounded queue; what does not fit is counted in a line "lost". Neither
packets nor other observers wait. -o json writes one object in each line.

Causes of an end: expired, finished (both sides have sent a FIN), reset (a RST), purged (an administrator or a change of the
configuration), evicted (for a newer session), replaced (restarted by a packet).`,
		Example: `  nat64ctl session follow --client 2001:db8::5
  nat64ctl session follow --tcp --port 443 -o json`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := flags.filter(c, nil)
			if err != nil {
				return err
			}
			p := newEventPrinter(a)
			err = a.client().FollowSessions(c.Context(), f, p)
			if c.Context().Err() != nil {
				return nil // the user has seen enough
			}
			return err
		},
	}
	flags.addEvents(c)
	c.Flags().IntVar(&flags.limit, "limit", 0, "end after so many events; 0: no limit")
	return c
}

// newEventPrinter returns a function that prints an event at once.
func newEventPrinter(a *app) func(control.SessionEvent) error {
	yaml, isYAML := a.out.(yamlOutput)
	switch {
	case isYAML:
		p := &yamlPrinter[control.SessionEvent]{out: yaml}
		return func(e control.SessionEvent) error {
			if err := p.add(e); err != nil {
				return err
			}
			return p.flush()
		}
	case a.format == formatJSON:
		enc := json.NewEncoder(a.out)
		return func(e control.SessionEvent) error { return enc.Encode(e) }
	case a.format == formatCSV:
		return csvEvents(a)
	}
	return tableEvents(a)
}

// eventWidths are those of the columns of a table whose rows are not known in advance.
var eventWidths = []int{12, 7, 5, 28, 21, 21, 0}

func tableEvents(a *app) func(control.SessionEvent) error {
	out := bufio.NewWriter(a.out)
	line := func(cells ...string) error {
		for i, c := range cells {
			if i < len(cells)-1 {
				c = fmt.Sprintf("%-*s%s", eventWidths[i], c, gap)
			}
			_, _ = out.WriteString(c) // Flush reports errors
		}
		_ = out.WriteByte('\n')
		return out.Flush()
	}
	var failed error
	if !a.noHeaders {
		failed = line("TIME", "EVENT", "PROTO", "CLIENT", "MAPPED", "PEER", "STATE")
	}
	return func(e control.SessionEvent) error {
		if failed != nil {
			return failed
		}
		at := e.Time.Local().Format("15:04:05.000")
		if e.Event == control.EventsLost {
			return line(at, e.Event, fmt.Sprintf("%s missing here: nat64ctl was too slow, or the sessions too many", count(e.Lost, "event")))
		}
		s := &e.Session
		state := cmp.Or(s.State, "-")
		switch {
		case e.Before != "":
			state = e.Before + " > " + state
		case e.Cause != "":
			state += " (" + e.Cause + ")"
		}
		return line(at, e.Event, s.Protocol, s.Client.String(), s.Mapped.String(), s.Peer.String(), state)
	}
}

func csvEvents(a *app) func(control.SessionEvent) error {
	out := csv.NewWriter(a.out)
	write := func(cells ...string) error {
		_ = out.Write(cells) // Error returns it
		out.Flush()
		return out.Error()
	}
	var failed error
	if !a.noHeaders {
		failed = write("time", "event", "protocol", "client", "client_port", "mapped", "mapped_port", "peer", "peer_port", "peer6", "peer6_port",
			"state", "before", "cause", "lost")
	}
	return func(e control.SessionEvent) error {
		at := e.Time.Format(time.RFC3339Nano)
		s := &e.Session
		switch {
		case failed != nil:
			return failed
		case e.Event == control.EventsLost:
			return write(at, e.Event, "", "", "", "", "", "", "", "", "", "", "", "", strconv.FormatUint(e.Lost, 10))
		}
		return write(at, e.Event, s.Protocol, s.Client.Addr().String(), port(s.Client), s.Mapped.Addr().String(), port(s.Mapped),
			s.Peer.Addr().String(), port(s.Peer), s.Peer6.Addr().String(), port(s.Peer6), s.State, e.Before, e.Cause, "")
	}
}
