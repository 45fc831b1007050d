package xlat

import (
	"encoding/binary"

	"nat64d/packet"
)

const mssLen = 4 // length of the option in bytes

// ClampMSS lowers the MSS option of the TCP SYN in o, a translation of v, to at most mss bytes and updates the
// checksum. It leaves a lower value as it is and does not add an option.
func ClampMSS(o *packet.Out, v *packet.View, mss int) {
	h := transport(o, v)
	at := packet.Segment(h).Option(packet.TCPOptionMSS, mssLen)
	if at == 0 {
		return
	}
	field := h[at+2:]
	old := binary.BigEndian.Uint16(field)
	if int(old) <= mss {
		return
	}
	binary.BigEndian.PutUint16(field, uint16(mss))
	if o.Offload.Checksum == packet.ChecksumPartial {
		return // the NIC or kernel that completes the checksum reads the new option
	}
	delta := packet.Sum(0).Less(old).Word(uint16(mss))
	if at%2 == 1 { // the value straddles two words, so its bytes are swapped in the sum (RFC 1071 section 2)
		delta = packet.Sum(0).Less(old<<8 | old>>8).Word(uint16(mss)<<8 | uint16(mss)>>8)
	}
	c := h[packet.TCPChecksum:]
	binary.BigEndian.PutUint16(c, delta.Adjust(binary.BigEndian.Uint16(c)))
}
