//go:build linux

package guard

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Watcher reports changes of the guard's table, whoever makes them, and of tables that may have NAT rules.
type Watcher struct{ c *netlink.Conn }

// Watch begins to listen to the notifications of nftables, in the network namespace of the calling thread.
func Watch() (*Watcher, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		return nil, fmt.Errorf("notifications of nftables: %w", err)
	}
	return &Watcher{c}, nil
}

// Wait blocks until nftables has changed. own reports whether the table of the guard may be concerned, and not only tables that
// Masqueraded reads. If notifications were lost, one of ours may have been among them. Close ends it with an error.
func (w *Watcher) Wait() (own bool, err error) {
	for {
		messages, err := w.c.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("notifications of nftables: %w", err)
		}
		others := false
		for _, m := range messages {
			if concerns(m) {
				return true, nil
			}
			others = others || natFamily(m)
		}
		if others {
			return false, nil
		}
	}
}

// natFamily reports whether a notification is about a table that may have NAT rules for IPv4.
func natFamily(m netlink.Message) bool {
	return m.Header.Type>>8 == unix.NFNL_SUBSYS_NFTABLES && m.Header.Type&0xff != unix.NFT_MSG_NEWGEN &&
		len(m.Data) >= nfgenmsg && (m.Data[0] == unix.NFPROTO_IPV4 || m.Data[0] == unix.NFPROTO_INET)
}

// Close ends Wait. Any goroutine may call it.
func (w *Watcher) Close() error { return w.c.Close() }

// concerns reports whether a notification is about our table: all kinds but the one at the end of a transaction have the name
// of the table as their first attribute.
func concerns(m netlink.Message) bool {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || m.Header.Type&0xff == unix.NFT_MSG_NEWGEN ||
		len(m.Data) < nfgenmsg || m.Data[0] != unix.NFPROTO_NETDEV {
		return false
	}
	d, err := netlink.NewAttributeDecoder(m.Data[nfgenmsg:])
	if err != nil {
		return true
	}
	for d.Next() {
		if d.Type() == unix.NFTA_TABLE_NAME {
			return d.String() == tableName
		}
	}
	return true
}
