//go:build linux

package afpacket

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// struct virtio_net_hdr (linux/virtio_net.h), which precedes every frame of a socket with PACKET_VNET_HDR. Its
// numbers are in host order. Its offsets start at the Ethernet header, those of packet.Offload at the IP header.
//
//	 0       1        2    3     4    5      6      7      8      9
//	+-------+--------+----+-----+----+------+------+------+------+------+
//	| flags | gso    | hdr_len  | gso_size  | csum_start  | csum_offset |
//	+-------+--------+----+-----+----+------+------+------+------+------+
const (
	vnetFlags      = 0
	vnetGSO        = 1
	vnetHdrLen     = 2
	vnetGSOSize    = 4
	vnetCsumStart  = 6
	vnetCsumOffset = 8
)

// decode decodes the virtio_net_hdr of an Ethernet frame of length bytes, link of which are the Ethernet header and
// its tags. It returns false if packet.Offload cannot represent the metadata: an unknown kind of segmentation, or
// offsets outside of the frame.
func decode(hdr []byte, link, length int) (packet.Offload, bool) {
	_ = hdr[packet.VnetLen-1]
	var o packet.Offload
	switch flags := hdr[vnetFlags]; {
	case flags&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0:
		start := int(binary.NativeEndian.Uint16(hdr[vnetCsumStart:])) - link
		field := binary.NativeEndian.Uint16(hdr[vnetCsumOffset:])
		if start < 0 || link+start+int(field)+2 > length {
			return o, false
		}
		o.Checksum, o.CsumStart, o.CsumOffset = packet.ChecksumPartial, uint16(start), field
	case flags&unix.VIRTIO_NET_HDR_F_DATA_VALID != 0:
		o.Checksum = packet.ChecksumGood
	}
	gso := hdr[vnetGSO]
	o.ECN = gso&unix.VIRTIO_NET_HDR_GSO_ECN != 0
	o.GSO = packet.GSO(gso &^ unix.VIRTIO_NET_HDR_GSO_ECN)
	switch o.GSO {
	case packet.GSONone:
		return o, !o.ECN
	case packet.GSOTCPv4, packet.GSOTCPv6:
	case packet.GSOUDPL4:
		if o.ECN {
			return o, false
		}
	default:
		return o, false
	}
	// The kernel's hdr_len is the length of the linear part of the frame: a hint, clamped to the length of the frame.
	hdrLen := min(int(binary.NativeEndian.Uint16(hdr[vnetHdrLen:])), length)
	o.HdrLen = uint16(max(hdrLen-link, 0))
	o.GSOSize = binary.NativeEndian.Uint16(hdr[vnetGSOSize:])
	return o, o.GSOSize != 0
}

// encode writes the virtio_net_hdr of a frame with head bytes of headers in one region. It never marks a checksum as
// good, which is for the receiver to verify.
func encode(hdr []byte, o *packet.Offload, head int) {
	_ = hdr[packet.VnetLen-1]
	clear(hdr[:packet.VnetLen])
	if o.Checksum == packet.ChecksumPartial {
		hdr[vnetFlags] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM
		binary.NativeEndian.PutUint16(hdr[vnetCsumStart:], o.CsumStart+packet.EthLen)
		binary.NativeEndian.PutUint16(hdr[vnetCsumOffset:], o.CsumOffset)
	}
	if o.GSO == packet.GSONone {
		return
	}
	hdr[vnetGSO] = byte(o.GSO)
	if o.ECN {
		hdr[vnetGSO] |= unix.VIRTIO_NET_HDR_GSO_ECN
	}
	// The hint of a received packet may be larger than the translated packet, which the kernel rejects (EINVAL), or
	// so large that the kernel would allocate tens of kilobytes of contiguous memory.
	hdrLen := min(int(o.HdrLen)+packet.EthLen, head)
	binary.NativeEndian.PutUint16(hdr[vnetHdrLen:], uint16(hdrLen))
	binary.NativeEndian.PutUint16(hdr[vnetGSOSize:], o.GSOSize)
}

// unwrap sets f to the IP packet of an Ethernet frame and its virtio_net_hdr.
func unwrap(f *packet.Frame, hdr, frame []byte) bool {
	if len(frame) < packet.EthLen {
		return false
	}
	link := linkLen(frame)
	var ok bool
	f.Offload, ok = decode(hdr, link, len(frame))
	f.Data = frame[link:]
	return ok
}

// linkLen returns the offset of the packet in an Ethernet frame: after the header and the remaining priority tags.
// The filter rejects other tags.
func linkLen(frame []byte) int {
	n := packet.EthLen
	for range maxTags {
		tagged := frame[n-2] == unix.ETH_P_8021Q>>8 && frame[n-1] == unix.ETH_P_8021Q&0xff ||
			frame[n-2] == unix.ETH_P_8021AD>>8 && frame[n-1] == unix.ETH_P_8021AD&0xff
		if !tagged || len(frame) < n+tagLen {
			break
		}
		n += tagLen
	}
	return n
}
