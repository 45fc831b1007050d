//go:build linux

package guard

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Watcher reports changes by any program of the guard's table, and of tables that may contain NAT rules.
type Watcher struct{ c *netlink.Conn }

// Watch subscribes to the notifications of nftables in the network namespace of the calling thread.
func Watch() (*Watcher, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		return nil, fmt.Errorf("notifications of nftables: %w", err)
	}
	return &Watcher{c}, nil
}

// Wait blocks until nftables has changed. own reports whether the guard's table may have changed, and not only tables
// that Masqueraded reads; it is true if notifications were lost. Close makes Wait return an error.
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

// natFamily reports whether a notification is about a table that may contain NAT rules for IPv4.
func natFamily(m netlink.Message) bool {
	return m.Header.Type>>8 == unix.NFNL_SUBSYS_NFTABLES && m.Header.Type&0xff != unix.NFT_MSG_NEWGEN &&
		len(m.Data) >= nfgenmsg && (m.Data[0] == unix.NFPROTO_IPV4 || m.Data[0] == unix.NFPROTO_INET)
}

// Close makes Wait return. It is safe for concurrent use.
func (w *Watcher) Close() error { return w.c.Close() }

// concerns reports whether a notification is about the guard's table. The first attribute of all notifications is the
// name of the table, except for the one at the end of a transaction.
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
