package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// offloads are what makes an interface accept frames larger than its MTU and checksums that are half done, by the
// kernel's names for them.
var offloads = [...]string{
	"tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation",
	"tx-udp-segmentation", "tx-generic-segmentation", "tx-checksum-ip-generic", "tx-scatter-gather",
}

// noOffload turns the offloads of an interface off, as ethtool -K does (ethtool netlink, ETHTOOL_MSG_FEATURES_SET).
func (n *Namespace) noOffload(name string) error {
	return n.Do(func() error {
		family, err := netlink.GenlFamilyGet("ethtool")
		if err != nil {
			return fmt.Errorf("ethtool netlink family: %w", err)
		}
		header := nl.NewRtAttr(unix.NLA_F_NESTED|unix.ETHTOOL_A_FEATURES_HEADER, nil)
		header.AddRtAttr(unix.ETHTOOL_A_HEADER_DEV_NAME, nl.ZeroTerminated(name))
		wanted := nl.NewRtAttr(unix.NLA_F_NESTED|unix.ETHTOOL_A_FEATURES_WANTED, nil)
		bits := wanted.AddRtAttr(unix.NLA_F_NESTED|unix.ETHTOOL_A_BITSET_BITS, nil)
		for _, o := range offloads {
			// A bit without a value attribute is one to clear.
			bit := bits.AddRtAttr(unix.NLA_F_NESTED|unix.ETHTOOL_A_BITSET_BITS_BIT, nil)
			bit.AddRtAttr(unix.ETHTOOL_A_BITSET_BIT_NAME, nl.ZeroTerminated(o))
		}
		request := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
		request.AddData(&nl.Genlmsg{Command: unix.ETHTOOL_MSG_FEATURES_SET, Version: 1})
		request.AddData(header)
		request.AddData(wanted)
		if _, err := request.Execute(unix.NETLINK_GENERIC, 0); err != nil {
			return fmt.Errorf("offloads of %s in %s: %w", name, n.Name, err)
		}
		return nil
	})
}
