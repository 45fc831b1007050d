//go:build linux

// Package ethtool reads and changes the features of NICs over generic netlink (Linux 5.7), as ethtool -k and -K do.
// It works in the network namespace of the calling thread.
package ethtool

import (
	"fmt"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Features are the features of a NIC that are active and those that can be changed, by the kernel's names, such as
// "rx-gro". A feature that the kernel does not know is in neither set.
type Features struct {
	Active     map[string]bool
	Changeable map[string]bool // by the driver; other active features may still prevent a change
}

// Get returns the features of a NIC.
func Get(nic string) (Features, error) {
	f := Features{}
	answers, err := execute(unix.ETHTOOL_MSG_FEATURES_GET, nic, nil)
	if err != nil {
		return f, fmt.Errorf("features of %s: %w", nic, err)
	}
	var never map[string]bool
	for _, a := range answers {
		d, err := netlink.NewAttributeDecoder(a.Data)
		if err != nil {
			return f, fmt.Errorf("features of %s: %w", nic, err)
		}
		for d.Next() {
			switch d.Type() {
			case unix.ETHTOOL_A_FEATURES_ACTIVE:
				f.Active = set(d)
			case unix.ETHTOOL_A_FEATURES_HW:
				f.Changeable = set(d)
			case unix.ETHTOOL_A_FEATURES_NOCHANGE:
				never = set(d)
			}
		}
		if err := d.Err(); err != nil {
			return f, fmt.Errorf("features of %s: %w", nic, err)
		}
	}
	for name := range never {
		delete(f.Changeable, name)
	}
	return f, nil
}

// Set switches features of a NIC on and off. The kernel may accept a change that the NIC then does not make; Get
// returns the actual state.
func Set(nic string, features map[string]bool) error {
	_, err := execute(unix.ETHTOOL_MSG_FEATURES_SET, nic, func(e *netlink.AttributeEncoder) {
		e.Nested(unix.ETHTOOL_A_FEATURES_WANTED, func(e *netlink.AttributeEncoder) error {
			e.Nested(unix.ETHTOOL_A_BITSET_BITS, func(e *netlink.AttributeEncoder) error {
				for name, on := range features {
					e.Nested(unix.ETHTOOL_A_BITSET_BITS_BIT, func(e *netlink.AttributeEncoder) error {
						e.String(unix.ETHTOOL_A_BITSET_BIT_NAME, name)
						e.Flag(unix.ETHTOOL_A_BITSET_BIT_VALUE, on)
						return nil
					})
				}
				return nil
			})
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("features of %s: %w", nic, err)
	}
	return nil
}

// execute sends a request about a NIC, with the attributes that more adds, and returns the replies.
func execute(command uint8, nic string, more func(*netlink.AttributeEncoder)) ([]genetlink.Message, error) {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	family, err := c.GetFamily(unix.ETHTOOL_GENL_NAME)
	if err != nil {
		return nil, fmt.Errorf("netlink family %s: %w", unix.ETHTOOL_GENL_NAME, err)
	}
	e := netlink.NewAttributeEncoder()
	e.Nested(unix.ETHTOOL_A_FEATURES_HEADER, func(e *netlink.AttributeEncoder) error {
		e.String(unix.ETHTOOL_A_HEADER_DEV_NAME, nic)
		return nil
	})
	flags := netlink.Request
	if more != nil {
		more(e)
		flags |= netlink.Acknowledge
	}
	data, err := e.Encode()
	if err != nil {
		return nil, err
	}
	return c.Execute(genetlink.Message{
		Header: genetlink.Header{Command: command, Version: unix.ETHTOOL_GENL_VERSION},
		Data:   data,
	}, family.ID, flags)
}

// set returns the names of the bits that are set in a bitset. A bitset without a mask contains only those.
func set(d *netlink.AttributeDecoder) map[string]bool {
	on, noMask := map[string]bool{}, false
	bit := func(d *netlink.AttributeDecoder) error {
		name, value := "", noMask
		for d.Next() {
			switch d.Type() {
			case unix.ETHTOOL_A_BITSET_BIT_NAME:
				name = d.String()
			case unix.ETHTOOL_A_BITSET_BIT_VALUE:
				value = true
			}
		}
		if value {
			on[name] = true
		}
		return nil
	}
	d.Nested(func(d *netlink.AttributeDecoder) error {
		for d.Next() {
			switch d.Type() {
			case unix.ETHTOOL_A_BITSET_NOMASK:
				noMask = true
			case unix.ETHTOOL_A_BITSET_BITS:
				d.Nested(func(d *netlink.AttributeDecoder) error {
					for d.Next() {
						d.Nested(bit)
					}
					return nil
				})
			}
		}
		return nil
	})
	return on
}
