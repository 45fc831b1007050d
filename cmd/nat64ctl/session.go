package main

import (
	"cmp"

	"github.com/spf13/cobra"

	"nat64d/control"
)

func newSession(a *app) *cobra.Command {
	c := group("session", "sessions: who talks with whom")
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
ICMP query is its Identifier. A session without a client is a SYN from IPv4 that waits for one. csv and json also have
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
	{"CLIENT", "client", func(s control.Session) string { return cmp.Or(client(s), "-") }, client},
	{"", "peer6", func(s control.Session) string { return s.Peer6.String() }, nil},
	{"MAPPED", "mapped", func(s control.Session) string { return s.Mapped.String() }, nil},
	{"PEER", "peer", func(s control.Session) string { return s.Peer.String() }, nil},
	{"EXPIRES", "expires_seconds", func(s control.Session) string { return human(s.Expires) }, func(s control.Session) string { return seconds(s.Expires) }},
	{"STATE", "state", func(s control.Session) string { return cmp.Or(s.State, "-") }, func(s control.Session) string { return s.State }},
}

// client returns the client of a session, which is empty for a stored SYN.
func client(s control.Session) string {
	if !s.Client.IsValid() {
		return ""
	}
	return s.Client.String()
}
