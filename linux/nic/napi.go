//go:build linux

package nic

import (
	"fmt"
	"net"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
)

// Constants of the generic netlink family netdev (linux/netdev.h): since Linux 6.8, napiSet and napiThreaded since 6.17.
const (
	napiGet      = 11
	napiSet      = 14
	napiIfindex  = 1
	napiID       = 2
	napiPID      = 4
	napiThreaded = 8
)

// napi is a receive context of a NIC.
type napi struct {
	id, pid  uint32 // pid: of its thread, 0 without one
	threaded uint32 // 0: soft interrupts receive, 1: a thread, 2: a thread that polls without sleeping
	known    bool   // the kernel reports threaded, so it can also set it
}

// settable reports whether generic netlink can switch the threads.
func settable(ns []napi) bool { return len(ns) > 0 && ns[0].known }

// napis returns the receive contexts of a NIC that is up.
func napis(i *net.Interface) (ns []napi, err error) {
	answers, err := netdev(napiGet, netlink.Request|netlink.Dump, func(e *netlink.AttributeEncoder) {
		e.Uint32(napiIfindex, uint32(i.Index))
	})
	if err != nil {
		return nil, fmt.Errorf("NAPI of %s: %w", i.Name, err)
	}
	for _, a := range answers {
		n, err := decodeNAPI(a.Data)
		if err != nil {
			return nil, fmt.Errorf("NAPI of %s: %w", i.Name, err)
		}
		ns = append(ns, n)
	}
	return ns, nil
}

// decodeNAPI decodes a reply to napiGet.
func decodeNAPI(data []byte) (n napi, err error) {
	d, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return n, err
	}
	for d.Next() {
		switch d.Type() {
		case napiID:
			n.id = d.Uint32()
		case napiPID:
			n.pid = d.Uint32()
		case napiThreaded:
			n.threaded, n.known = d.Uint32(), true
		}
	}
	return n, d.Err()
}

// setThreaded switches the threads of receive contexts.
func setThreaded(ns []napi, on bool) error {
	var threaded uint32
	if on {
		threaded = 1
	}
	for _, n := range ns {
		_, err := netdev(napiSet, netlink.Request|netlink.Acknowledge, func(e *netlink.AttributeEncoder) {
			e.Uint32(napiID, n.id)
			e.Uint32(napiThreaded, threaded)
		})
		if err != nil {
			return fmt.Errorf("NAPI %d: %w", n.id, err)
		}
	}
	return nil
}

// netdev sends a request to the family netdev and returns the replies.
func netdev(command uint8, flags netlink.HeaderFlags, attributes func(*netlink.AttributeEncoder)) ([]genetlink.Message, error) {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("generic netlink: %w", err)
	}
	defer c.Close()
	family, err := c.GetFamily("netdev")
	if err != nil {
		return nil, err
	}
	e := netlink.NewAttributeEncoder()
	attributes(e)
	data, err := e.Encode()
	if err != nil {
		return nil, err
	}
	request := genetlink.Message{Header: genetlink.Header{Command: command, Version: family.Version}, Data: data}
	return c.Execute(request, family.ID, flags)
}
