// Package guard keeps the host's own IP stack from answering for the transport addresses and prefixes that a NAT64
// gateway (RFC 6146) has taken over: a tap such as AF_PACKET sees every frame, but so does the host, which would
// reset each translated connection.
package guard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"nat64d/pool4"
	"nat64d/pool6"
)

// Options says how to guard.
type Options struct {
	V6, V4       string // interface names; may be equal
	ReservePorts bool   // keep the host's programs from picking pool4 ports on addresses that the host owns
}

// Guard owns one nftables table, and the ports that it added to net.ipv4.ip_local_reserved_ports. Its methods act in
// the network namespace of the calling thread, always the same one. One goroutine at a time may use it, but for Refuse.
type Guard struct {
	o       Options
	pool4   []pool4.Entry
	pool6   []pool6.Prefix
	bypass  []netip.Prefix
	notes   map[int]string // by the index of an interface; nil: those that are in the table
	indexes [2]int         // of the interfaces, when the table was installed
	applied bool
	stale   bool // the last attempt to install has failed
}

// New returns a guard that has changed nothing yet.
func New(o Options) *Guard { return &Guard{o: o} }

// Apply makes the host blind to the TCP and UDP ports of entries on the v4 interface and to the destinations in
// prefixes on the v6 interface, and to nothing else. What lies in bypass is left to the host, unless a prefix that is as
// long or longer says otherwise. The table is replaced in one transaction, also one that an earlier process left behind.
// Whether entries harm the host is not asked: that is for Refuse.
//
// ICMP needs no rule: the host ignores an echo reply or an error that it did not ask for, and an echo request to its
// own address is its to answer.
func (g *Guard) Apply(entries []pool4.Entry, prefixes []pool6.Prefix, bypass []netip.Prefix) error {
	g.pool4, g.pool6, g.bypass, g.applied = slices.Clone(entries), slices.Clone(prefixes), slices.Clone(bypass), true
	return g.install()
}

// Check installs the table again if it has vanished, an interface is not the one that it was bound to, or it could not be
// installed the last time. Call it on every link event.
func (g *Guard) Check() error {
	if !g.applied {
		return nil
	}
	whole, err := g.tableIsWhole()
	if err != nil {
		return err
	}
	if whole && !g.stale && g.indexes == g.interfaces() {
		return nil
	}
	return g.install()
}

// Remove deletes the table and gives the reserved ports back. Without a table it does nothing. If the ports cannot be
// given back, the table goes all the same: ports that stay reserved harm the host less than services that stay unheard.
func (g *Guard) Remove() error {
	g.applied = false
	added, exists, err := addedPorts()
	if !exists {
		return err
	}
	if err == nil {
		err = giveBack(added)
	}
	return errors.Join(err, deleteTable())
}

// install makes the table and the reserved ports what they should be. The table names the ports that we added, so
// that the next start knows them after a crash: ports are given back before the table forgets them, and added
// after it has noted them.
func (g *Guard) install() (err error) {
	defer func() { g.stale = err != nil }()
	old, _, err := addedPorts()
	if err != nil {
		return err
	}
	current, err := reservedPorts()
	if err != nil {
		return err
	}
	var want ports
	if g.o.ReservePorts {
		if want, err = ownPorts(g.pool4); err != nil {
			return err
		}
	}
	others := current.minus(old)
	added := want.minus(others)
	if err := reserve(current, current.minus(old.minus(added))); err != nil {
		return err
	}
	g.indexes = g.interfaces()
	if err := g.replaceTable(added); err != nil {
		return err
	}
	return reserve(current.minus(old.minus(added)), others.plus(added))
}

// interfaces returns the indexes of the v6 and the v4 interface, 0 for one that does not exist at the moment.
func (g *Guard) interfaces() (indexes [2]int) {
	for i, name := range []string{g.o.V6, g.o.V4} {
		if ifi, err := net.InterfaceByName(name); err == nil {
			indexes[i] = ifi.Index
		}
	}
	return indexes
}

// giveBack takes the ports that we added out of the reserved ones. Its error names them, since the table, which is
// about to go, is the only note of them.
func giveBack(added ports) error {
	current, err := reservedPorts()
	if err == nil {
		err = reserve(current, current.minus(added))
	}
	if err != nil {
		return fmt.Errorf("ports %v stay reserved: %w", added, err)
	}
	return nil
}

// wrap says what failed, since errors of nftables are bare numbers.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("nftables: %s netdev %s: %w", doing, tableName, err)
}
