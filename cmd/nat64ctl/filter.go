package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

// protocolFlags are --tcp, --udp and --icmp.
type protocolFlags struct{ tcp, udp, icmp bool }

func (p *protocolFlags) add(c *cobra.Command) {
	c.Flags().BoolVarP(&p.tcp, "tcp", "t", false, "TCP (default: all three protocols)")
	c.Flags().BoolVarP(&p.udp, "udp", "u", false, "UDP")
	c.Flags().BoolVarP(&p.icmp, "icmp", "i", false, "ICMP queries, whose ports are their Identifiers")
}

// names returns the selected protocols; none selects all.
func (p *protocolFlags) names() (names []string) {
	for _, f := range []struct {
		set  bool
		name string
	}{{p.tcp, "tcp"}, {p.udp, "udp"}, {p.icmp, "icmp"}} {
		if f.set {
			names = append(names, f.name)
		}
	}
	return names
}

// filterFlags select entries of a listing.
type filterFlags struct {
	protocolFlags
	client, peer string
	limit        int
}

// add adds the flags to a listing; only sessions have a peer.
func (f *filterFlags) add(c *cobra.Command, peer bool) {
	f.protocolFlags.add(c)
	c.Flags().StringVar(&f.client, "client", "", "only of this IPv6 address or prefix")
	if peer {
		c.Flags().StringVar(&f.peer, "peer", "", "only with this IPv4 address or prefix")
	}
	c.Flags().IntVar(&f.limit, "limit", 0, "at most so many; 0: no limit")
}

// filter returns the filter for the flags.
func (f *filterFlags) filter(c *cobra.Command) (filter control.Filter, err error) {
	if f.limit < 0 {
		return filter, usageError{fmt.Errorf("--limit %d must not be negative", f.limit), c.CommandPath()}
	}
	filter.Protocols, filter.Limit = f.names(), f.limit
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
