//go:build linux

package afpacket

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// UDPSuperPackets reports whether packet sockets support super-packets of UDP, which they do since Linux 6.2
// (VIRTIO_NET_HDR_GSO_UDP_L4). Older kernels refuse to send them, and drop those that they have built themselves
// because of rx-udp-gro-forwarding.
func UDPSuperPackets() bool {
	var name unix.Utsname
	return unix.Uname(&name) == nil && atLeast(unix.ByteSliceToString(name.Release[:]), 6, 2)
}

// atLeast reports whether a kernel's release is at least major.minor. It returns false for a release without a
// version number.
func atLeast(release string, major, minor int) bool {
	var a, b int
	n, _ := fmt.Sscanf(release, "%d.%d", &a, &b)
	return n == 2 && (a > major || a == major && b >= minor)
}
