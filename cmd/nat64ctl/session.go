package main

import (
	"cmp"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newSession(a *app) *cobra.Command {
	c := group("session", "show sessions")
	c.AddCommand(newSessionList(a))
	return c
}

func newSessionList(a *app) *cobra.Command {
	var flags filterFlags
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"display"},
		Short:   "show sessions",
		Long: `Show sessions, in no particular order: a client, the pool4 port that stands for it, and its IPv4 peer. The port of an
ICMP query is its Identifier. A session without a client is a stored SYN from IPv4. csv and json also have
the peer as the client sees it.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := flags.filter(c)
			if err != nil {
				return err
			}
			p := newPrinter(a, sessionColumns)
			if err := a.client().Sessions(c.Context(), f, p.add); err != nil {
				return err
			}
			return p.end()
		},
	}
	flags.add(c, true)
	return c
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
}

// known returns the text about the client of a session, or none for a stored SYN, which has no client.
func known(s control.Session, none, text string) string {
	if !s.Client.IsValid() {
		return none
	}
	return text
}
