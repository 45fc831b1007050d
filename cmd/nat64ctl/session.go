package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newSession(a *app) *cobra.Command {
	c := group("session", "show, follow and end sessions")
	c.AddCommand(newSessionList(a), newSessionFollow(a), newSessionRemove(a))
	return c
}

func newSessionList(a *app) *cobra.Command {
	var flags filterFlags
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"display"},
		Short:   "show sessions",
		Long: `Show sessions, in no particular order unless --sort gives one: a client, the pool4 port that stands for it, and its IPv4
peer. The port of an ICMP query is its Identifier. A session without a client is a stored SYN from IPv4. -o wide, csv and json also
have the peer as the client sees it.`,
		Example: `  nat64ctl session list --client 2001:db8::/64 --tcp --state established --older 1h
  nat64ctl session list --port 443 --count
  nat64ctl session list --sort -idle --limit 20`,
		Args: none,
	}
	flags.addSession(c)
	flags.addListing(c, control.SessionOrders())
	a.watched(c, func(c *cobra.Command, _ []string) error {
		f, err := flags.filter(c, control.SessionOrders())
		if err != nil {
			return err
		}
		if flags.count {
			n, err := a.client().CountSessions(c.Context(), f)
			return a.printCount(n.Count, n, err)
		}
		unhurried()
		p := newPrinter(a, wider(a, sessionColumns, sessionWide))
		if err := a.client().Sessions(c.Context(), f, p.add); err != nil {
			return err
		}
		return p.end()
	})
	return c
}

func newSessionRemove(a *app) *cobra.Command {
	var flags filterFlags
	var all, yes bool
	c := &cobra.Command{
		Use:   "remove",
		Short: "end the sessions that the flags select",
		Long: `End the sessions that the flags select, and the dynamic bindings that lose their last session by that. At least one flag must
select sessions; --all --yes ends all of them. nat64d logs the change. A client that sends another UDP packet or ping gets a new session, but a TCP
connection whose session has ended is cut off.`,
		Example: `  nat64ctl session remove --client 2001:db8::5
  nat64ctl session remove --tcp --state trans --older 1m
  nat64ctl session list --peer 192.0.2.7 && nat64ctl session remove --peer 192.0.2.7`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := flags.filter(c, nil)
			if err != nil {
				return err
			}
			if err := confirmed(c, all, yes); err != nil {
				return err
			}
			r, err := a.client().RemoveSessions(c.Context(), control.ChangeOf(&f, all))
			switch {
			case err != nil:
				return err
			case a.format != formatTable:
				return printFields(a, r, nil)
			case r.Sessions == 0:
				fmt.Fprintln(a.out, "nothing to end: no session matches")
			default:
				fmt.Fprintf(a.out, "ended %s\n", count(r.Sessions, "session"))
			}
			return nil
		},
	}
	flags.addSession(c)
	c.Flags().BoolVar(&all, "all", false, "all sessions; needs --yes")
	c.Flags().BoolVar(&yes, "yes", false, "confirm --all")
	return c
}

// confirmed returns an error if a command would end all sessions by mistake.
func confirmed(c *cobra.Command, all, yes bool) error {
	selects := slices.ContainsFunc([]string{"tcp", "udp", "icmp", "client", "peer", "mapped", "port", "state", "older"}, c.Flags().Changed)
	var err error
	switch {
	case all && selects:
		err = errors.New("--all ends every session: leave it out to end those that the other flags select")
	case all && !yes:
		err = errors.New("--all ends every session; if that is meant, add --yes")
	case !all && !selects:
		err = errors.New("remove needs a flag that selects sessions, such as --client, --peer, --mapped, --port, --state or --older; --all --yes ends every session")
	default:
		return nil
	}
	return usageError{err, c.CommandPath()}
}

var sessionColumns = []column[control.Session]{
	{"PROTO", "protocol", func(s control.Session) string { return s.Protocol }, nil},
	{"CLIENT", "", func(s control.Session) string { return known(s, "-", s.Client.String()) }, nil},
	{"", "client", func(s control.Session) string { return known(s, "", s.Client.Addr().String()) }, nil},
	{"", "client_port", func(s control.Session) string { return known(s, "", port(s.Client)) }, nil},
	{"MAPPED", "", func(s control.Session) string { return s.Mapped.String() }, nil},
	{"", "mapped", func(s control.Session) string { return s.Mapped.Addr().String() }, nil},
	{"", "mapped_port", func(s control.Session) string { return port(s.Mapped) }, nil},
	{"PEER", "", func(s control.Session) string { return s.Peer.String() }, nil},
	{"", "peer", func(s control.Session) string { return s.Peer.Addr().String() }, nil},
	{"", "peer_port", func(s control.Session) string { return port(s.Peer) }, nil},
	{"", "peer6", func(s control.Session) string { return s.Peer6.Addr().String() }, nil},
	{"", "peer6_port", func(s control.Session) string { return port(s.Peer6) }, nil},
	{"EXPIRES", "expires_seconds", func(s control.Session) string { return human(s.Expires) }, func(s control.Session) string { return seconds(s.Expires) }},
	{"STATE", "state", func(s control.Session) string { return cmp.Or(s.State, "-") }, func(s control.Session) string { return s.State }},
	{"", "idle_seconds", nil, func(s control.Session) string { return seconds(s.Idle) }},
}

// sessionWide are the columns that -o wide adds.
var sessionWide = []column[control.Session]{
	{"PEER6", "", func(s control.Session) string { return s.Peer6.String() }, nil},
	{"IDLE", "", func(s control.Session) string { return human(s.Idle) }, nil},
}

// known returns the text about the client of a session, or none for a stored SYN, which has no client.
func known(s control.Session, none, text string) string {
	if !s.Client.IsValid() {
		return none
	}
	return text
}
