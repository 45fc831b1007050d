//go:build linux

package lab

import "nat64d/linux/ethtool"

// features are the offloads to turn off, so that an interface refuses frames larger than its MTU and partial
// checksums.
var features = map[string]bool{
	"tx-tcp-segmentation": false, "tx-tcp6-segmentation": false, "tx-tcp-ecn-segmentation": false, "tx-tcp-mangleid-segmentation": false,
	"tx-udp-segmentation": false, "tx-generic-segmentation": false, "tx-checksum-ip-generic": false, "tx-scatter-gather": false,
}

// noOffload turns off the offloads of an interface.
func (n *Namespace) noOffload(name string) error {
	return n.Do(func() error { return ethtool.Set(name, features) })
}
