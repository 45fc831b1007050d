//go:build linux

package afpacket

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// UDPSuperPackets says whether super-packets of UDP pass packet sockets: from Linux 6.2 on (VIRTIO_NET_HDR_GSO_UDP_L4). Kernels
// before that refuse to send them, and drop those that they have made themselves where rx-udp-gro-forwarding is on.
func UDPSuperPackets() bool {
	var name unix.Utsname
	return unix.Uname(&name) == nil && atLeast(unix.ByteSliceToString(name.Release[:]), 6, 2)
}

// atLeast compares the beginning of a kernel's release. One that does not begin with a version is no such kernel.
func atLeast(release string, major, minor int) bool {
	var a, b int
	n, _ := fmt.Sscanf(release, "%d.%d", &a, &b)
	return n == 2 && (a > major || a == major && b >= minor)
}
