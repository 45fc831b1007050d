package xlat

import (
	"encoding/binary"

	"nat64d/packet"
)

const mssLen = 4 // bytes of the option

// ClampMSS lowers the MSS option of the TCP SYN in o, a translation of v, to at most mss bytes, checksum included. An
// option that is lower, or that is not there, stays as it is.
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
		return // whoever completes the checksum reads the option as it is now
	}
	delta := packet.Sum(0).Less(old).Word(uint16(mss))
	if at%2 == 1 { // the value straddles two words: its bytes are swapped in the sum (RFC 1071 section 2)
		delta = packet.Sum(0).Less(old<<8 | old>>8).Word(uint16(mss)<<8 | uint16(mss)>>8)
	}
	c := h[packet.TCPChecksum:]
	binary.BigEndian.PutUint16(c, delta.Adjust(binary.BigEndian.Uint16(c)))
}
